// Package recovery turns a panic in a handler into an INTERNAL error, so that
// the process lives and the other calls go on.
//
// The caller learns the trace ID, not the panic's text, which may hold what is
// not the caller's business. The report function gets everything. Over HTTP a
// panic with [http.ErrAbortHandler] is how a handler asks for its response to be cut
// off: it is not reported, and the error wraps it.
//
// An error that panics when it is asked for its text, its chain or its status is what
// a nil pointer that was returned as an error does; it is reported and answered like a
// panic of the handler.
//
// A handler that ends its goroutine (runtime.Goexit) cannot be brought back. It
// is reported with [ErrGoexit]; over HTTP the connection is closed, over gRPC the
// caller waits for its deadline.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/internal/errtext"
	"plinth.internal/middleware"
)

// Report is told of a panic: its call, its value and the stack it happened on.
type Report func(ctx context.Context, call *middleware.Call, value any, stack []byte)

// ErrGoexit is what is reported of a handler that ended its goroutine.
var ErrGoexit = errors.New("the handler ended its goroutine (runtime.Goexit)")

// New builds the middleware. It belongs inside logging, metering and tracing, so
// that these see the error. A nil report is not called.
func New(report Report) middleware.Middleware {
	if report == nil {
		report = func(context.Context, *middleware.Call, any, []byte) {}
	}
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) (err error) {
			returned := false
			defer func() {
				if returned {
					return
				}
				value := recover()
				err = status.Error(codes.Internal, message(call))
				switch value {
				case http.ErrAbortHandler:
					if call.Kind.HTTP() {
						err = fmt.Errorf("%w: %w", err, http.ErrAbortHandler)
						return
					}
				case nil: // panic(nil) is a *runtime.PanicNilError
					value = ErrGoexit
				}
				report(ctx, call, value, debug.Stack())
			}()
			err = next(ctx, call)
			returned = true
			if err == nil {
				return nil
			}
			if broken := errtext.Check(err, askStatus); broken != nil {
				report(ctx, call, broken, broken.Stack)
				return status.Error(codes.Internal, message(call))
			}
			if p, ok := errors.AsType[*middleware.PanicError](err); ok {
				value := p.Value
				if value == nil {
					value = ErrGoexit
				}
				report(ctx, call, value, p.Stack)
				return status.Error(codes.Internal, message(call))
			}
			return err
		}
	}
}

// askStatus asks an error for what everybody outside of this middleware asks it for.
func askStatus(err error) { middleware.Status(err) }

func message(call *middleware.Call) string {
	m := "internal error in " + call.FullMethod()
	if call.TraceID != "" {
		m += ", trace ID " + call.TraceID
	}
	return m
}
