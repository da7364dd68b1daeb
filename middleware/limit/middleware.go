package limit

import (
	"cmp"
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// maxPushback bounds how long callers are asked to wait with another attempt, which
// goes to another instance where there is one. Those that go over a rate are told
// when there is room.
const maxPushback = 100 * time.Millisecond

// The least pushback, which is in whole milliseconds: 0 would mean at once. Where no
// latency is known yet calls are taken to last as long as firstPushback.
const (
	minPushback   = time.Millisecond
	firstPushback = 10 * time.Millisecond
)

// Middleware limits the calls of a server.
//
// A call is let in if the rates allow it and if fewer calls are in flight than the
// limit says. Calls that matter less may use a part of the limit only:
// SheddablePlus eight tenths, Sheddable six; those of CriticalPlus may exceed what is
// learned by half, but not [Config].Max. While there is not enough for all, a caller that asks for more than its
// share may use half of what is its calls' part, and the others twice the limit: all
// that they ask for can be served, but it comes in bursts. The share is what each
// would get if those that ask for less got all of it and the others shared the rest
// evenly. A caller is known by who was proved to call ([middleware.Caller]), else by
// the name that it says, else by its host; with [CallersChecked] by what was proved
// or its host.
//
// A call that is turned away ends with RESOURCE_EXHAUSTED, over HTTP 429, with
// [middleware.HeaderPushback] and [middleware.HeaderUnprocessed], over HTTP with
// Retry-After too.
//
// It belongs inside of whatever finds out who calls and of what drops calls that
// nobody waits for (middleware/deadline), and around everything that costs
// something. Logging, metering and tracing belong around it, so that they see what
// is turned away; logging makes no line of it.
//
// How much a call matters is in its context from here on; see
// [middleware.WithCriticality].
func (l *Limiter) Middleware() middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			if isProbe(call) {
				return next(ctx, call)
			}
			class := middleware.ParseCriticality(call.Header(middleware.HeaderCriticality))
			if class != middleware.Critical {
				ctx = middleware.WithCriticality(ctx, class)
			}
			name, proved := l.callerOf(ctx, call)
			e := entry{class: class, caller: name, begun: l.since(call.Start)}
			if r, wait, ok := l.overRate(call, name, proved, e.begun); !ok {
				return l.reject(call, e, r.rejected, wait)
			}
			who := l.policy.callers.find(name, proved)
			if reason := l.policy.admit(e.begun, class, who, call.Kind.Stream()); reason != "" {
				return l.reject(call, e, l.errors[reason], l.pushback())
			}
			switch {
			case call.Kind.Stream():
				defer l.policy.endLasting()
				return next(ctx, call)
			case call.Kind.HTTP():
				return l.http(ctx, call, next, e)
			}
			return l.unary(ctx, call, next, e)
		}
	}
}

// entry is what is known of a call that comes.
type entry struct {
	caller string
	begun  time.Duration
	class  middleware.Criticality
}

func (l *Limiter) unary(ctx context.Context, call *middleware.Call, next middleware.Handler, e entry) error {
	code := codes.Internal // unless next returns
	// Deferred, so that a handler which ends its goroutine does not stay in flight
	// for ever.
	defer func() { l.end(e, code) }()
	err := next(ctx, call)
	code = middleware.Code(err)
	return err
}

// http lets go of the request's place when the head of the response is out: the rest
// is up to how fast the caller reads, and some responses are meant to last.
func (l *Limiter) http(ctx context.Context, call *middleware.Call, next middleware.Handler, e entry) error {
	began, ended := false, false
	call.BeforeReply(func() {
		if !ended {
			began = true
			l.policy.held.add(oneStream)
			l.end(e, codes.OK)
		}
	})
	code := codes.Internal // unless next returns
	defer func() {
		if ended = true; began {
			l.policy.endLasting()
			return
		}
		l.end(e, code)
	}()
	err := next(ctx, call)
	code = middleware.Code(err)
	return err
}

// end takes a call out of the count.
func (l *Limiter) end(e entry, code codes.Code) {
	now := l.since(time.Now())
	if l.policy.end(now, e.begun, outcomeOf(code)) {
		l.settle(now)
	}
}

func outcomeOf(code codes.Code) outcome {
	switch code {
	case codes.Canceled, codes.DeadlineExceeded:
		return late
	case codes.Internal, codes.Unknown, codes.Unavailable, codes.DataLoss, codes.ResourceExhausted, codes.Unimplemented:
		return failed
	}
	return served
}

// overRate finds the first rate that does not allow a call.
func (l *Limiter) overRate(call *middleware.Call, caller string, proved bool, now time.Duration) (*rate, time.Duration, bool) {
	for _, r := range l.config.Load().rates {
		if !r.matches(call.FullMethod(), caller, proved) {
			continue
		}
		if wait, ok := r.take(now, caller, proved); !ok {
			return r, wait, false
		}
	}
	return nil, 0, true
}

// pushback is how long to wait with another attempt: long enough that those who are
// turned away do not come again all at once.
func (l *Limiter) pushback() time.Duration {
	latency := cmp.Or(time.Duration(l.policy.recent.Load()), firstPushback)
	return max(rand.N(min(latency, maxPushback)), minPushback)
}

// reject turns a call away.
func (l *Limiter) reject(call *middleware.Call, e entry, rejected *RejectedError, wait time.Duration) error {
	l.counts[rejected.Reason].Add(1)
	if l.options.onReject != nil {
		l.options.onReject(call, rejected.Reason)
	}
	l.note(call, e, rejected)
	ms := (wait + time.Millisecond - 1) / time.Millisecond
	call.SetTrailer(middleware.HeaderPushback, strconv.FormatInt(int64(ms), 10))
	call.SetTrailer(middleware.HeaderUnprocessed, "1")
	if call.Kind.HTTP() {
		call.SetReply("Retry-After", strconv.FormatInt(max(1, int64((wait+time.Second-1)/time.Second)), 10))
	}
	return rejected
}

// nameOf finds out who calls, and whether that was proved.
func nameOf(ctx context.Context, call *middleware.Call) (name string, proved bool) {
	if name := middleware.Caller(ctx); name != "" {
		return name, true
	}
	if !call.Kind.HTTP() {
		if agent, ok := strings.CutPrefix(call.Header("user-agent"), middleware.CallerAgent); ok {
			name, _, _ := strings.Cut(agent, " ")
			return name, false
		}
	}
	if name := call.Header(middleware.HeaderCaller); name != "" {
		return name, false
	}
	return hostOf(call.Peer()), false
}

// isProbe tells the calls that are made to look at a server, not to use it.
func isProbe(call *middleware.Call) bool {
	return strings.HasPrefix(call.Service, "grpc.health.") || strings.HasPrefix(call.Service, "grpc.reflection.")
}
