package framework

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/middleware/limit"
)

// The reasons of calls that are dropped because nobody waits for them, beside those
// of the limiter.
const (
	rejectedExpired  = "expired"
	rejectedCanceled = "canceled"
)

// newLimiter makes what turns calls away that cannot be served in time.
func (a *App) newLimiter() (*limit.Limiter, error) {
	opts := []limit.Option{
		limit.OnReject(func(call *middleware.Call, r limit.Reason) {
			a.metrics.CountServerRejection(call.FullMethod(), string(r))
		}),
		limit.WithEvents(func(e limit.Event) { a.emit(LimitEvent{e}) }),
	}
	if a.auth != nil {
		opts = append(opts, limit.CallersChecked())
	}
	l := limit.New(opts...)
	if err := l.Configure(a.settings.Server.Limit.config()); err != nil {
		return nil, &configError{err}
	}
	return l, nil
}

// limitMiddleware limits calls. It belongs inside of what finds out who calls, and
// around what is done for the call.
func (a *App) limitMiddleware() middleware.Middleware { return a.limiter.Middleware() }

// applyLimit brings changed settings into effect.
func (a *App) applyLimit(s *limitSettings) { _ = a.limiter.Configure(s.config()) } // validated with the rest

// droppedCalls are how many calls were dropped because nobody waits for them.
type droppedCalls struct{ expired, canceled atomic.Int64 }

// countDropped has calls counted that are dropped before their handler runs.
func (a *App) countDropped() deadline.Option {
	return deadline.OnDrop(func(call *middleware.Call, code codes.Code) {
		reason, n := rejectedExpired, &a.dropped.expired
		if code == codes.Canceled {
			reason, n = rejectedCanceled, &a.dropped.canceled
		}
		n.Add(1)
		a.metrics.CountServerRejection(call.FullMethod(), reason)
	})
}

// measureLimit brings the gauges of the limiter up to date.
func (a *App) measureLimit() {
	s := a.limiter.Stats()
	a.metrics.SetServerLimit(s.Limit, s.InFlight, s.Usual)
}

// LimitDocument is what /debug/limit answers.
type LimitDocument struct {
	// Learns says that the limit that learns is on.
	Learns bool `json:"learns"`
	// Limit is the number of calls in flight from which on calls are turned away,
	// 0 for none, and Parts are those for calls that matter more or less, by
	// criticality.
	Limit int64            `json:"limit"`
	Parts map[string]int64 `json:"parts"`
	// InFlight is the number of calls in flight, Lasting that of streams and of
	// HTTP responses whose body is being sent.
	InFlight int64 `json:"in_flight"`
	Lasting  int64 `json:"lasting"`
	// LatencyMS is the mean latency of late, UsualMS the one when all is well; 0
	// where it is not known.
	LatencyMS float64 `json:"latency_ms"`
	UsualMS   float64 `json:"usual_ms"`
	// Rejected are how many calls were turned away since the start, by reason:
	// those of the limiter, and expired and canceled for calls that nobody waits
	// for any more.
	Rejected map[string]int64 `json:"rejected"`
	// Callers are those that make the most calls.
	Callers []LimitCaller `json:"callers"`
}

// LimitCaller is a caller in a [LimitDocument].
type LimitCaller struct {
	Caller string `json:"caller"`
	// Rate is how many calls a second it makes.
	Rate float64 `json:"rate"`
	// Limited says that it asks for more than its share while there is not enough
	// for all.
	Limited bool `json:"limited"`
}

// Limit is what /debug/limit answers at this moment.
func (a *App) Limit() LimitDocument {
	s := a.limiter.Stats()
	doc := LimitDocument{
		Learns: s.Learns, Limit: s.Limit, Parts: map[string]int64{}, InFlight: s.InFlight, Lasting: s.Lasting,
		LatencyMS: milliseconds(s.Latency), UsualMS: milliseconds(s.Usual),
		Rejected: map[string]int64{rejectedExpired: a.dropped.expired.Load(), rejectedCanceled: a.dropped.canceled.Load()}, Callers: []LimitCaller{},
	}
	for c, n := range s.Parts {
		doc.Parts[c.String()] = n
	}
	for r, n := range s.Rejected {
		doc.Rejected[string(r)] = n
	}
	for _, c := range s.Callers {
		doc.Callers = append(doc.Callers, LimitCaller(c))
	}
	return doc
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func describeLimit(e limit.Event) string {
	switch e.(type) {
	case limit.SheddingBegan:
		return "calls are turned away; /debug/limit shows why, plinth_server_rejected_total how many"
	case limit.SheddingEnded:
		return "no calls are turned away any more"
	case limit.CallerLimited:
		return "a caller asks for more than its share while there is not enough for all"
	}
	return ""
}

func levelOfLimit(e limit.Event) zapcore.Level {
	if _, ok := e.(limit.SheddingEnded); ok {
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}

func fieldsOfLimit(e limit.Event) []zap.Field {
	switch e := e.(type) {
	case limit.SheddingBegan:
		fields := []zap.Field{
			zap.String("reason", string(e.Reason)), zap.String("method", e.Method), zap.String("caller", e.Caller),
			zap.Int64("limit", e.Limit), zap.Int64("in_flight", e.InFlight), zap.Duration("latency", e.Latency), zap.Duration("usual", e.Usual),
		}
		if e.Rate != "" {
			fields = append(fields, zap.String("rate", e.Rate))
		}
		return fields
	case limit.SheddingEnded:
		fields := []zap.Field{zap.Duration("took", e.Took)}
		for _, r := range slices.Sorted(maps.Keys(e.Counts)) {
			fields = append(fields, zap.Int64(string(r), e.Counts[r]))
		}
		return fields
	case limit.CallerLimited:
		return []zap.Field{zap.String("caller", e.Caller), zap.Float64("rate", e.Rate), zap.Float64("share", e.Share)}
	}
	return nil
}
