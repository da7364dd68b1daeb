package server

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"plinth.internal/middleware"
)

// activity knows whether calls still come, which decides how long a drain
// waits.
type activity struct {
	grpc, http atomic.Int64 // calls that are not over
	last       atomic.Pointer[time.Time]
}

func (a *activity) grpcInFlight() int { return int(a.grpc.Load()) }
func (a *activity) httpInFlight() int { return int(a.http.Load()) }

func (a *activity) lastCall() time.Time {
	if t := a.last.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// activityGrain is how exact the time of the last call is; it keeps calls from
// writing to the same cache line all the time.
const activityGrain = 10 * time.Millisecond

func (a *activity) middleware(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		if infrastructure(call.Service) {
			return next(ctx, call)
		}
		if call.Start.Sub(a.lastCall()) > activityGrain {
			start := call.Start
			a.last.Store(&start)
		}
		inFlight := &a.grpc
		if call.Kind.HTTP() {
			inFlight = &a.http
		}
		inFlight.Add(1)
		defer inFlight.Add(-1)
		return next(ctx, call)
	}
}

// infrastructure reports services that are called without anybody wanting work
// done.
func infrastructure(service string) bool {
	return strings.HasPrefix(service, "grpc.health.") || strings.HasPrefix(service, "grpc.reflection.")
}
