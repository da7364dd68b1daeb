// Package deadline makes sure that a call has a deadline and that the deadline
// travels: [Client] sets it and hands it on, [Server] applies it and turns away
// work that nobody waits for any more. Over gRPC the transport carries it in the
// grpc-timeout header; over HTTP this package does, in the same header and
// format, so that a chain of calls over both keeps one deadline.
//
// Guarantees:
//   - A deadline is only ever made earlier, never later.
//   - Only durations travel. Clocks that differ or jump do no harm.
//   - No goroutine is started, and a context is derived only where the deadline
//     changes.
//   - A deadline is not applied to a stream unless the caller or the client's
//     settings give one: streams are meant to last.
package deadline

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
)

// Expired is the reason of the error of a call that is dropped because its deadline is
// over, in [Domain].
const (
	Domain  = apierror.Domain("plinth.internal")
	Expired = "EXPIRED"
)

const (
	// Hop is what is taken off the deadline of the caller of this process
	// before it is passed on, so that there is time to answer that caller
	// after a callee has used up what it was given. Where less than four times
	// as much is left it is a quarter of that: a chain with a short deadline
	// shares it out instead of giving up.
	Hop = 5 * time.Millisecond
	// MinRemaining is the least time that a server starts work for.
	MinRemaining = time.Millisecond

	// Header carries the remaining time of an HTTP request.
	Header = "grpc-timeout"
)

// Client sets the deadline of outgoing calls to the earliest of: the deadline
// of ctx, the timeout for the call, and the deadline that [Server] saw less
// [Hop]. A timeout of zero or less sets none. The timeout covers the whole call
// with all its attempts; for HTTP it includes the response body.
//
// A call whose deadline has passed is not made: DEADLINE_EXCEEDED. Where the
// deadline is not that of ctx, [context.Cause] of the call's context tells after
// its end whose it was: [ErrTimeout] or [ErrServed]. The function is called once
// for every call, concurrently.
func Client(timeout func(*middleware.Call) time.Duration) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			now := time.Now()
			current, bounded := ctx.Deadline()
			limit := current
			var whose error
			if due, ok := inbound(ctx); ok {
				if d := due.Add(-hop(due.Sub(now))); !bounded || d.Before(limit) {
					limit, bounded, whose = d, true, ErrServed
				}
			}
			if t := timeout(call); t > 0 {
				if d := now.Add(t); !bounded || d.Before(limit) {
					limit, bounded, whose = d, true, ErrTimeout
				}
			}
			if !bounded {
				return next(ctx, call)
			}
			if remaining := limit.Sub(now); remaining <= 0 {
				return status.Errorf(codes.DeadlineExceeded,
					"call %s/%s: the caller's deadline passed %s ago", call.Target, call.Method, -remaining)
			}
			if !limit.Equal(current) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadlineCause(ctx, limit, whose)
				defer cancel()
			}
			Propagate(ctx, call)
			return next(ctx, call)
		}
	}
}

// hop is what is kept of the time that remains.
func hop(remaining time.Duration) time.Duration {
	return min(Hop, max(remaining, 0)/4)
}

// Propagate writes the time that remains of ctx into an HTTP request. [Client]
// calls it; a middleware that makes several attempts calls it again for each. It
// does nothing for gRPC, which writes the header itself.
func Propagate(ctx context.Context, call *middleware.Call) {
	if call.Kind != middleware.ClientHTTP {
		return
	}
	if d, ok := ctx.Deadline(); ok {
		call.SetHeader(Header, Format(time.Until(d)))
	}
}

// Option changes what [Server] does.
type Option func(*server)

// WithDefault gives calls whose caller sets no deadline one of d, except
// streams. The default is none; zero or less means none.
func WithDefault(d time.Duration) Option {
	return func(s *server) { s.fallback = d }
}

// OnDrop has fn called for every call that is turned away because nobody waits for
// it any more, with its code: CANCELED or DEADLINE_EXCEEDED. The call waits for it.
// The default is none.
func OnDrop(fn func(call *middleware.Call, code codes.Code)) Option {
	return func(s *server) { s.dropped = fn }
}

type server struct {
	fallback time.Duration
	dropped  func(*middleware.Call, codes.Code)
}

// Server applies the caller's deadline to incoming calls. It turns away, before
// the handler runs, a call whose caller has gone (CANCELED), one with less than
// [MinRemaining] left (DEADLINE_EXCEEDED), and an HTTP request whose header
// cannot be read (INVALID_ARGUMENT).
func Server(opts ...Option) middleware.Middleware {
	s := server{dropped: func(*middleware.Call, codes.Code) {}}
	for _, opt := range opts {
		opt(&s)
	}
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			if err := ctx.Err(); err != nil {
				code := middleware.Code(err)
				s.dropped(call, code)
				if code == codes.DeadlineExceeded {
					return Domain.New(code, Expired, "start "+call.FullMethod()+": the caller's deadline is over", apierror.Cause(err))
				}
				return middleware.Status(err).Err()
			}
			now := time.Now()
			current, bounded := ctx.Deadline()
			limit, bounded, err := received(now, current, bounded, call)
			if err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			if bounded {
				if remaining := limit.Sub(now); remaining < MinRemaining {
					s.dropped(call, codes.DeadlineExceeded)
					return Domain.New(codes.DeadlineExceeded, Expired,
						fmt.Sprintf("start %s/%s: %s are left of the caller's deadline, less than the %s that work is started for",
							call.Service, call.Method, max(0, remaining), MinRemaining))
				}
			} else if s.fallback > 0 && !call.Kind.Stream() {
				limit = now.Add(s.fallback)
			}
			if !limit.Equal(current) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, limit)
				defer cancel()
			}
			if bounded {
				ctx = call.WithValue(ctx, inboundKey{}, ctx)
			}
			return next(ctx, call)
		}
	}
}

// received adds the deadline that an HTTP request carries to the one that the
// context has; over gRPC the transport has done so.
func received(now, limit time.Time, bounded bool, call *middleware.Call) (time.Time, bool, error) {
	if call.Kind != middleware.ServerHTTP {
		return limit, bounded, nil
	}
	v := call.Header(Header)
	if v == "" {
		return limit, bounded, nil
	}
	t, err := Parse(v)
	if err != nil {
		return limit, bounded, err
	}
	if d := now.Add(t); !bounded || d.Before(limit) {
		return d, true, nil
	}
	return limit, bounded, nil
}

// inboundKey is for the context which has the deadline that the caller of this
// process has set. As it is there already, noting it costs nothing.
type inboundKey struct{}

// inbound is the deadline that the caller of this process has set.
func inbound(ctx context.Context) (time.Time, bool) {
	if caller, ok := ctx.Value(inboundKey{}).(context.Context); ok {
		return caller.Deadline()
	}
	return time.Time{}, false
}
