// Package metering measures rate, errors and duration of every call, with the
// trace ID as the duration's exemplar.
package metering

import (
	"context"

	"google.golang.org/grpc/codes"

	"plinth.internal/metrics"
	"plinth.internal/middleware"
)

// Server measures the calls that the service of that name receives.
func Server(calls *metrics.Calls, service string) middleware.Middleware {
	return measure(calls, func(*middleware.Call) string { return service })
}

// Client measures the calls made, by the service they are made to.
func Client(calls *metrics.Calls) middleware.Middleware {
	return measure(calls, func(call *middleware.Call) string { return call.Target })
}

func measure(calls *metrics.Calls, service func(*middleware.Call) string) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			group := call.Service
			if call.Kind.HTTP() {
				group = ""
			}
			m := calls.Method(service(call), group, call.Method)
			m.Begin()
			code := codes.Internal // unless next returns
			// Deferred, so that a handler which ends its goroutine does not
			// stay in flight for ever.
			defer func() {
				m.End(int(code), middleware.CodeName(code), call.Start, call.Attempts, call.TraceID)
			}()
			err := next(ctx, call)
			code = middleware.Code(err)
			return err
		}
	}
}
