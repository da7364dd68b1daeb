package trace

import (
	"context"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// withSpanContext is OpenTelemetry's ContextWithSpanContext with one allocation
// instead of two.
func withSpanContext(ctx context.Context, sc oteltrace.SpanContext) context.Context {
	if spanKey == nil {
		return oteltrace.ContextWithSpanContext(ctx, sc)
	}
	return &spanContext{Context: ctx, span: span{Span: silent, sc: sc}}
}

// spanContext is a context and the span in it.
type spanContext struct {
	context.Context

	span span
}

func (c *spanContext) Value(key any) any {
	if key == spanKey {
		return &c.span
	}
	return c.Context.Value(key)
}

// span records nothing; it only has a span context.
type span struct {
	oteltrace.Span

	sc oteltrace.SpanContext
}

func (s *span) SpanContext() oteltrace.SpanContext { return s.sc }

// silent is the span of a context that has none.
var silent = oteltrace.SpanFromContext(context.Background())

// spanKey is what OpenTelemetry looks up the span of a context by. It is not
// exported, but asked for; nil where nothing is, or more than one thing.
var spanKey = askedFor(func(ctx context.Context) { oteltrace.SpanFromContext(ctx) })

// askedFor is the key that ask looks up in a context.
func askedFor(ask func(context.Context)) any {
	asked := &keys{Context: context.Background()}
	if ask(asked); len(asked.all) != 1 {
		return nil
	}
	return asked.all[0]
}

// keys is a context that notes what it is asked for.
type keys struct {
	context.Context

	all []any
}

func (k *keys) Value(key any) any {
	k.all = append(k.all, key)
	return nil
}
