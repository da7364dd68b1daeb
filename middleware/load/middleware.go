package load

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

// errBounced is the outcome of a call that is handed back.
var errBounced = status.Error(codes.Unavailable,
	"the call was handed back: this instance has more calls in flight than its caller allows ("+HeaderLimit+"); try another one")

// Middleware measures the calls of a server, attaches reports to their
// responses, and bounces.
//
// It belongs outermost, around tracing, logging and metering: then it sees every
// call to its very end, and a call that is handed back costs next to nothing and
// is no line in the log, no span and no failure in the metrics. [OnBounce] and
// [Tracker.Bounced] count it.
//
// A report goes with every response to a caller that sent [HeaderLimit] or
// [HeaderWanted], with every answer to a health check, and over gRPC to every caller
// that is no client of Plinth's. Those of Plinth's that sent neither header have
// nobody to choose from, and get one in 10 ms.
func (t *Tracker) Middleware() middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			switch {
			case isProbe(call):
				// Cheap calls that nobody waits for would make the mean say
				// nothing about those that matter.
				err := next(ctx, call)
				call.SetTrailer(HeaderReport, t.encoded())
				return err
			case call.Kind.Stream():
				return t.stream(ctx, call, next)
			case call.Kind.HTTP():
				return t.http(ctx, call, next)
			}
			return t.unary(ctx, call, next)
		}
	}
}

func (t *Tracker) unary(ctx context.Context, call *middleware.Call, next middleware.Handler) error {
	limit := call.Header(HeaderLimit)
	before := t.inFlight.Add(units) - units
	if exceeded(before, limit) {
		return t.bounce(call)
	}
	asked := limit != "" || call.Header(HeaderWanted) != ""
	code := codes.Internal // unless next returns
	// Deferred, so that a handler which ends its goroutine does not stay in
	// flight for ever.
	defer func() {
		now := time.Now()
		t.end(units, code, now.Sub(call.Start), now, false)
		if asked || t.due(now.Sub(t.born)) || !call.FromPlinth() {
			call.SetTrailer(HeaderReport, t.encoded())
		}
	}()
	err := next(ctx, call)
	code = middleware.Code(err)
	return err
}

func (t *Tracker) stream(ctx context.Context, call *middleware.Call, next middleware.Handler) error {
	t.inFlight.Add(streamUnits)
	code := codes.Internal // unless next returns
	defer func() {
		t.end(streamUnits, code, 0, time.Now(), true)
		call.SetTrailer(HeaderReport, t.encoded())
	}()
	err := next(ctx, call)
	code = middleware.Code(err)
	return err
}

// http measures the time to the beginning of the response: the rest is up to how
// fast the caller reads, and some responses are meant to last. The report goes
// out at that moment, too, but for the caller's own call, which is not over yet.
func (t *Tracker) http(ctx context.Context, call *middleware.Call, next middleware.Handler) error {
	limit := call.Header(HeaderLimit)
	before := t.inFlight.Add(units) - units
	if exceeded(before, limit) {
		return t.bounce(call)
	}
	asked := limit != "" || call.Header(HeaderWanted) != ""
	var began time.Time
	ended := false
	call.BeforeReply(func() {
		if began = time.Now(); asked && !ended {
			call.SetReply(HeaderReport, withInFlight(t.current.Load().encoded, (t.inFlight.Load()-units)/units))
		}
	})
	code := codes.Internal // unless next returns
	defer func() {
		ended = true
		now := time.Now()
		if began.IsZero() {
			began = now
		}
		t.end(units, code, began.Sub(call.Start), now, false)
		if asked {
			call.SetTrailer(HeaderReport, t.encoded())
		}
	}()
	err := next(ctx, call)
	code = middleware.Code(err)
	return err
}

// bounce hands a call back that was counted as in flight already.
func (t *Tracker) bounce(call *middleware.Call) error {
	t.inFlight.Add(-units)
	t.bounced.Add(1)
	if t.options.onBounce != nil {
		t.options.onBounce(call)
	}
	t.fold(time.Since(t.born))
	call.SetTrailer(HeaderBounce, "1")
	call.SetTrailer(HeaderReport, t.encoded())
	return errBounced
}

func (t *Tracker) end(weight int64, code codes.Code, d time.Duration, now time.Time, stream bool) {
	t.inFlight.Add(-weight)
	t.count(code, d, stream)
	t.fold(now.Sub(t.born))
}

// exceeded reports whether there are as many calls in flight as the limit says.
func exceeded(inFlight int64, limit string) bool {
	n, ok := parseLimit(limit)
	return ok && inFlight/units >= n
}

// parseLimit reads a positive integer. Anything else is no limit.
func parseLimit(s string) (int64, bool) {
	if s == "" || len(s) > 15 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, n > 0
}

// isProbe tells the calls that are made to look at a server, not to use it.
func isProbe(call *middleware.Call) bool {
	return strings.HasPrefix(call.Service, "grpc.health.") || strings.HasPrefix(call.Service, "grpc.reflection.")
}
