package trace_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"plinth.internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id     = "0af7651916cd43dd8448eb211c80319c"
	span   = "b7ad6b7169203331"
	parent = "00-" + id + "-" + span + "-01"
)

// headers is a request.
type headers map[string]string

func (h headers) Header(key string) string    { return h[key] }
func (h headers) SetHeader(key, value string) { h[key] = value }

// op names a span.
type op string

func (o op) FullMethod() string { return string(o) }

func TestExtract(t *testing.T) {
	for _, tc := range []struct {
		name    string
		in      headers
		id      string
		spanID  bool
		sampled bool
		state   string
		baggage string
	}{
		{"nothing", headers{}, "", false, false, "", ""},
		{"traceparent", headers{"traceparent": parent}, id, true, true, "", ""},
		{"with state", headers{"traceparent": parent, "tracestate": "a=1,b=2"}, id, true, true, "a=1,b=2", ""},
		{"bad state is dropped", headers{"traceparent": parent, "tracestate": "???"}, id, true, true, "", ""},
		{"state without parent", headers{"tracestate": "a=1"}, "", false, false, "", ""},
		{"x-trace-id", headers{"x-trace-id": strings.ToUpper(id)}, id, false, false, "", ""},
		{"traceparent wins", headers{"traceparent": parent, "x-trace-id": strings.Repeat("1", 32)}, id, true, true, "", ""},
		{"bad traceparent", headers{"traceparent": "garbage", "x-trace-id": id}, id, false, false, "", ""},
		{"both bad", headers{"traceparent": "garbage", "x-trace-id": "garbage"}, "", false, false, "", ""},
		{"baggage", headers{"baggage": "user=7"}, "", false, false, "", "user=7"},
		{"bad baggage", headers{"baggage": "=;", "x-trace-id": id}, id, false, false, "", ""},
	} {
		ctx, sc := trace.Extract(t.Context(), tc.in)
		_, same, asText := trace.ExtractID(t.Context(), tc.in)
		if want := tc.id; !same.Equal(sc) || asText != want && asText != "" || sc.HasSpanID() && asText == "" {
			t.Errorf("%s: ExtractID has %+v and %q", tc.name, same, asText)
		}
		got := ""
		if sc.HasTraceID() {
			got = sc.TraceID().String()
		}
		if got != tc.id || sc.HasSpanID() != tc.spanID || sc.IsSampled() != tc.sampled || sc.TraceState().String() != tc.state || sc.IsRemote() != (tc.id != "") {
			t.Errorf("%s: %+v", tc.name, sc)
		}
		if b := baggage.FromContext(ctx).String(); b != tc.baggage {
			t.Errorf("%s: baggage %q", tc.name, b)
		}
		if trace.ID(ctx) != "" {
			t.Errorf("%s: the remote parent is in the context already", tc.name)
		}
	}
}

func TestInject(t *testing.T) {
	out := headers{}
	if written := trace.Inject(t.Context(), out); len(out) != 0 || written != "" {
		t.Errorf("without a trace: %v, %q", out, written)
	}
	in := headers{"traceparent": parent, "tracestate": "a=1", "baggage": "user=7"}
	ctx, sc := trace.Extract(t.Context(), in)
	written := trace.Inject(oteltrace.ContextWithSpanContext(ctx, sc), out)
	if !maps.Equal(out, in) || written != id {
		t.Errorf("out %v (%q), in %v", out, written, in)
	}
}

// TestPropagation sends a trace through three services.
func TestPropagation(t *testing.T) {
	tr, err := trace.New(trace.Config{Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []headers{{"traceparent": parent, "tracestate": "a=1", "baggage": "user=7"}, {"x-trace-id": id}, {}} {
		request := first
		var ids []string
		spans := map[string]bool{}
		for range 3 {
			ctx, sc := trace.Extract(t.Context(), request)
			ctx, _ = tr.Begin(ctx, sc, oteltrace.SpanKindServer, op("serve"))
			ctx, _ = tr.Begin(ctx, oteltrace.SpanContextFromContext(ctx), oteltrace.SpanKindClient, op("call"))
			traceID, spanID := trace.IDs(ctx)
			ids, spans[spanID] = append(ids, traceID), true
			request = headers{}
			trace.Inject(ctx, request)
			if request["tracestate"] != first["tracestate"] || request["baggage"] != first["baggage"] {
				t.Errorf("sent on: %v", request)
			}
		}
		if ids[0] != ids[1] || ids[1] != ids[2] || len(spans) != 3 || len(ids[0]) != 32 {
			t.Errorf("trace IDs %q, span IDs %v", ids, spans)
		}
		if len(first) > 0 && ids[0] != id {
			t.Errorf("trace ID %s, want %s", ids[0], id)
		}
	}
}

func TestEnsure(t *testing.T) {
	ctx := trace.Ensure(t.Context())
	first, spanID := trace.IDs(ctx)
	if len(first) != 32 || len(spanID) != 16 || trace.ID(ctx) != first {
		t.Errorf("IDs %q, %q", first, spanID)
	}
	if oteltrace.SpanContextFromContext(ctx).IsSampled() {
		t.Error("it is sampled")
	}
	if again := trace.ID(trace.Ensure(ctx)); again != first {
		t.Errorf("another ID, %q", again)
	}
	if other := trace.ID(trace.Ensure(t.Context())); other == first {
		t.Error("the same ID twice")
	}
	if a, b := trace.IDs(t.Context()); a != "" || b != "" || trace.ID(t.Context()) != "" {
		t.Errorf("IDs %q, %q of nothing", a, b)
	}
}

func TestGo(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(trace.Ensure(t.Context()), key{}, 7))
	want := trace.ID(ctx)
	cancel()
	done := make(chan struct{})
	trace.Go(ctx, func(ctx context.Context) {
		defer close(done)
		if trace.ID(ctx) != want || ctx.Value(key{}) != 7 {
			t.Errorf("trace ID %q, value %v", trace.ID(ctx), ctx.Value(key{}))
		}
		if ctx.Err() != nil || ctx.Done() != nil {
			t.Errorf("it is cancelled with the call: %v", ctx.Err())
		}
	})
	<-done
}
