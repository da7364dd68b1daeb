package server

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"plinth.internal/middleware"
)

// activity knows whether calls still come, which decides how long a drain
// waits.
type activity struct {
	grpc, http atomic.Int64 // calls that are not over
	last       atomic.Pointer[time.Time]
	arrivals   atomic.Pointer[arrivals] // nil while nobody counts
}

// arrivals are the calls since a moment. They are counted during a drain only:
// a counter that every call writes to would cost all of them.
type arrivals struct {
	mu    sync.Mutex
	calls int64
	last  time.Time
}

func (a *arrivals) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if at.After(a.last) {
		a.last = at
	}
}

// CountArrivals counts the calls that arrive from now on, health checks and
// reflection left out, for [Server.Arrivals]. Calling it again begins anew.
func (s *Server) CountArrivals() { s.activity.arrivals.Store(&arrivals{}) }

// Arrivals is how many calls have arrived since [Server.CountArrivals], and when
// the last of them did; zero for none, and before it was called.
func (s *Server) Arrivals() (calls int64, last time.Time) {
	a := s.activity.arrivals.Load()
	if a == nil {
		return 0, time.Time{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls, a.last
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
		if counting := a.arrivals.Load(); counting != nil {
			counting.add(call.Start)
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
