package trace

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// TestWithSpanContext holds that OpenTelemetry cannot tell the context from its own.
func TestWithSpanContext(t *testing.T) {
	if spanKey == nil {
		t.Fatal("the key of spans was not found; contexts take one more allocation")
	}
	sc := oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID(), TraceFlags: oteltrace.FlagsSampled})
	type key struct{}
	outer := context.WithValue(t.Context(), key{}, "outer")
	ctx := withSpanContext(outer, sc)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for name, ctx := range map[string]context.Context{
		"itself":            ctx,
		"with a value":      context.WithValue(ctx, key{}, "inner"),
		"cancelled":         cancelled,
		"without a cancel":  context.WithoutCancel(ctx),
		"with baggage":      baggage.ContextWithBaggage(ctx, baggage.Baggage{}),
		"with another span": withSpanContext(withSpanContext(outer, oteltrace.SpanContext{}), sc),
	} {
		if got := oteltrace.SpanContextFromContext(ctx); !got.Equal(sc) {
			t.Errorf("%s: the span context is %+v, want %+v", name, got, sc)
		}
		if got, same := oteltrace.SpanFromContext(ctx), oteltrace.SpanFromContext(oteltrace.ContextWithSpanContext(outer, sc)); got.IsRecording() || got.TracerProvider() != same.TracerProvider() {
			t.Errorf("%s: the span is not silent", name)
		}
	}
	if ctx.Value(key{}) != "outer" || ctx.Value("nothing") != nil {
		t.Error("other values are not those of the context outside")
	}
	if got := oteltrace.SpanContextFromContext(outer); got.IsValid() {
		t.Errorf("the context outside has %+v", got)
	}

	provider := sdktrace.NewTracerProvider()
	defer func() { _ = provider.Shutdown(context.Background()) }()
	below, span := provider.Tracer("").Start(ctx, "below")
	defer span.End()
	if ro, ok := span.(sdktrace.ReadOnlySpan); !ok || !ro.Parent().Equal(sc) || span.SpanContext().TraceID() != sc.TraceID() {
		t.Errorf("a span that is started in it is %+v, want a child of %+v", span.SpanContext(), sc)
	}
	if got := oteltrace.SpanFromContext(below); got != span {
		t.Error("below a span that was started in it is another span")
	}
}

// TestAskedFor holds that a key is only taken where there is no doubt.
func TestAskedFor(t *testing.T) {
	type a struct{}
	type b struct{}
	for _, test := range []struct {
		name string
		ask  func(context.Context)
		want any
	}{
		{"nothing", func(context.Context) {}, nil},
		{"one key", func(ctx context.Context) { ctx.Value(a{}) }, a{}},
		{"two keys", func(ctx context.Context) { ctx.Value(a{}); ctx.Value(b{}) }, nil},
	} {
		if got := askedFor(test.ask); got != test.want {
			t.Errorf("%s: it is %v, want %v", test.name, got, test.want)
		}
	}
}
