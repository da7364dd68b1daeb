// Package trace gives every call one trace ID that ties its logs, metrics and
// spans together across goroutines and services.
//
// The ID comes from the caller's W3C traceparent, from its x-trace-id, or is
// new; it is in the context ([ID]), is sent on to every service that is called,
// and is returned to the caller as x-trace-id. Spans are recorded and exported
// over OTLP only where an endpoint is configured and the trace is sampled; a
// call of any other trace costs no span, yet has its ID.
//
// Guarantees: nothing here sets OpenTelemetry's process-wide defaults; a
// [Tracer] may be used by any number of goroutines; a collector that is slow or
// gone loses spans, never calls: spans wait in a bounded queue and are dropped
// when it is full.
package trace

import (
	"context"
	"math/rand/v2"

	"go.opentelemetry.io/otel/baggage"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Header names. TraceIDHeader is returned to callers; it is read only where
// there is no traceparent.
const (
	TraceparentHeader = "traceparent"
	TracestateHeader  = "tracestate"
	BaggageHeader     = "baggage"
	TraceIDHeader     = "x-trace-id"
)

// ID is the trace ID in ctx, 32 lower-case hex digits, or "" where there is
// none.
func ID(ctx context.Context) string {
	if id := oteltrace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

// IDs are the trace ID and the span ID in ctx in hex, each "" where there is
// none.
func IDs(ctx context.Context) (traceID, spanID string) {
	sc := oteltrace.SpanContextFromContext(ctx)
	if sc.HasTraceID() {
		traceID = sc.TraceID().String()
	}
	if sc.HasSpanID() {
		spanID = sc.SpanID().String()
	}
	return traceID, spanID
}

// Ensure returns ctx with a trace ID: its own where it has one, else a new one
// that is not sampled. It is for work that no call started, such as a job.
func Ensure(ctx context.Context) context.Context {
	if oteltrace.SpanContextFromContext(ctx).HasTraceID() {
		return ctx
	}
	return withSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
		TraceID: newTraceID(), SpanID: newSpanID(),
	}))
}

// Go runs fn in a new goroutine with a context that carries everything ctx does,
// the trace with it, but is not cancelled with ctx: the work goes on when the
// call that started it has been answered. A panic in fn ends the process, as in
// any goroutine; framework.Service.Go supervises instead.
func Go(ctx context.Context, fn func(ctx context.Context)) {
	ctx = context.WithoutCancel(ctx)
	go fn(ctx)
}

// Reader gives access to the headers of a request that was received.
type Reader interface {
	// Header returns the first value of a header, "" when it is absent.
	Header(key string) string
}

// Writer takes the headers of a request that is about to be sent.
type Writer interface {
	// SetHeader sets a header, in place of what it was.
	SetHeader(key, value string)
}

// Extract reads what the caller sent: traceparent with tracestate, else
// x-trace-id, and the baggage. The span context is that of the remote parent;
// it has a trace ID but no span ID after an x-trace-id, and is empty where the
// caller sent nothing that could be read, which is never an error.
func Extract(ctx context.Context, r Reader) (context.Context, oteltrace.SpanContext) {
	ctx, parent, _ := ExtractID(ctx, r)
	return ctx, parent
}

// ExtractID is [Extract] that also returns the trace ID as the caller has written
// it in a traceparent, which saves to write it again; "" where there was none.
func ExtractID(ctx context.Context, r Reader) (context.Context, oteltrace.SpanContext, string) {
	if b := r.Header(BaggageHeader); b != "" {
		if bag, err := baggage.Parse(b); err == nil {
			ctx = baggage.ContextWithBaggage(ctx, bag)
		}
	}
	header := r.Header(TraceparentHeader)
	cfg, ok := parseTraceparent(header)
	if !ok {
		id, ok := parseTraceID(r.Header(TraceIDHeader))
		if !ok {
			return ctx, oteltrace.SpanContext{}, ""
		}
		return ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: id, Remote: true}), ""
	}
	cfg.Remote = true
	if s := r.Header(TracestateHeader); s != "" {
		if state, err := oteltrace.ParseTraceState(s); err == nil {
			cfg.TraceState = state
		}
	}
	return ctx, oteltrace.NewSpanContext(cfg), traceIDOf(header)
}

// Inject writes the span context and the baggage in ctx into the headers of a
// request. It returns the trace ID that it has written, as [ID] does, "" where
// there was none.
func Inject(ctx context.Context, w Writer) (traceID string) {
	sc := oteltrace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	header := formatTraceparent(sc)
	w.SetHeader(TraceparentHeader, header)
	if sc.TraceState().Len() > 0 {
		w.SetHeader(TracestateHeader, sc.TraceState().String())
	}
	if bag := baggage.FromContext(ctx); bag.Len() > 0 {
		w.SetHeader(BaggageHeader, bag.String())
	}
	return traceIDOf(header)
}

func newTraceID() (id oteltrace.TraceID) {
	for !id.IsValid() {
		putUint64(id[:8], rand.Uint64())
		putUint64(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id oteltrace.SpanID) {
	for !id.IsValid() {
		putUint64(id[:], rand.Uint64())
	}
	return id
}
