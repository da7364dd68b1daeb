package trace_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"plinth.internal/trace"
)

// collector takes spans over HTTP and over gRPC.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer

	mu       sync.Mutex
	paths    []string
	resource map[string]string
	spans    []*tracepb.Span
}

func (c *collector) Export(_ context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		c.resource = map[string]string{}
		for _, a := range rs.GetResource().GetAttributes() {
			c.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	req := new(collectorpb.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.paths = append(c.paths, r.URL.Path)
	c.mu.Unlock()
	resp, err := c.Export(r.Context(), req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out, _ := proto.Marshal(resp)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(out)
}

func (c *collector) overHTTP(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return s.URL
}

func (c *collector) overGRPC(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(s, c)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return "grpc://" + l.Addr().String()
}

func newTracer(t *testing.T, cfg trace.Config) *trace.Tracer {
	t.Helper()
	tr, err := trace.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Shutdown(t.Context()) }) // a test may have done it
	return tr
}

func shutdown(t *testing.T, tr *trace.Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tr.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// TestExport sends spans to a collector over both protocols.
func TestExport(t *testing.T) {
	for name, open := range map[string]func(*collector, *testing.T) string{
		"http": (*collector).overHTTP, "grpc": (*collector).overGRPC,
		"http with a path": func(c *collector, t *testing.T) string { return c.overHTTP(t) + "/custom/traces" },
	} {
		t.Run(name, func(t *testing.T) {
			c := &collector{}
			var lost []error
			tr := newTracer(t, trace.Config{
				Service: "orders", Version: "1.2.3", Instance: "orders-1", Endpoint: open(c, t), Sample: 1,
				OnError: func(err error) { lost = append(lost, err) },
			})
			// A call that came with an x-trace-id, and one that it makes.
			ctx, sc := trace.Extract(t.Context(), headers{"x-trace-id": id})
			ctx, server := tr.Begin(ctx, sc, oteltrace.SpanKindServer, op("o.O/Get"))
			if server == nil || trace.ID(ctx) != id {
				t.Fatalf("span %v, trace ID %s", server, trace.ID(ctx))
			}
			below, client := tr.Begin(ctx, oteltrace.SpanContextFromContext(ctx), oteltrace.SpanKindClient, op("b.B/Pay"))
			out := headers{}
			trace.Inject(below, out)
			client.SetAttributes(attribute.Int("n", 7))
			client.End()
			// A span that the service starts itself belongs to the call ...
			_, own := tr.Provider().Tracer("own").Start(ctx, "own")
			own.End()
			// ... unless it wants a trace of its own.
			_, root := tr.Provider().Tracer("own").Start(ctx, "root", oteltrace.WithNewRoot())
			root.End()
			server.End()
			shutdown(t, tr)

			if len(lost) > 0 {
				t.Errorf("lost: %v", lost)
			}
			spans := map[string]*tracepb.Span{}
			for _, s := range c.spans {
				spans[s.GetName()] = s
			}
			if len(c.spans) != 4 || len(spans) != 4 {
				t.Fatalf("the collector has %v", c.spans)
			}
			hexID := func(s *tracepb.Span) string { return hex.EncodeToString(s.GetTraceId()) }
			for _, name := range []string{"o.O/Get", "b.B/Pay", "own"} {
				if hexID(spans[name]) != id {
					t.Errorf("%s has trace ID %s", name, hexID(spans[name]))
				}
			}
			if hexID(spans["root"]) == id || len(spans["root"].GetParentSpanId()) != 0 {
				t.Errorf("a new root is in trace %s", hexID(spans["root"]))
			}
			get, pay := spans["o.O/Get"], spans["b.B/Pay"]
			if len(get.GetParentSpanId()) != 0 || string(pay.GetParentSpanId()) != string(get.GetSpanId()) || string(spans["own"].GetParentSpanId()) != string(get.GetSpanId()) {
				t.Error("parents are wrong")
			}
			if get.GetKind() != tracepb.Span_SPAN_KIND_SERVER || pay.GetKind() != tracepb.Span_SPAN_KIND_CLIENT || len(pay.GetAttributes()) != 1 {
				t.Errorf("kinds %v and %v, attributes %v", get.GetKind(), pay.GetKind(), pay.GetAttributes())
			}
			if want := "00-" + id + "-" + hex.EncodeToString(pay.GetSpanId()) + "-01"; out["traceparent"] != want {
				t.Errorf("sent on %q, want %q", out["traceparent"], want)
			}
			if c.resource["service.name"] != "orders" || c.resource["service.version"] != "1.2.3" || c.resource["service.instance.id"] != "orders-1" {
				t.Errorf("resource %v", c.resource)
			}
			switch {
			case name == "http" && (len(c.paths) != 1 || c.paths[0] != "/v1/traces"), name == "http with a path" && (len(c.paths) != 1 || c.paths[0] != "/custom/traces"):
				t.Errorf("paths %q", c.paths)
			}
		})
	}
}

// TestSampling: the caller's decision is kept; without one the share decides, by
// the trace ID.
func TestSampling(t *testing.T) {
	const low, high = "0af7651916cd43dd0000000000000001", "0af7651916cd43ddffffffffffffffff"
	for _, tc := range []struct {
		name    string
		in      headers
		share   float64
		sampled bool
	}{
		{"parent says yes", headers{"traceparent": parent}, 0, true},
		{"parent says no", headers{"traceparent": "00-" + id + "-" + span + "-00"}, 1, false},
		{"none", headers{"x-trace-id": low}, 0, false},
		{"all", headers{"x-trace-id": high}, 1, true},
		{"half, low", headers{"x-trace-id": low}, 0.5, true},
		{"half, high", headers{"x-trace-id": high}, 0.5, false},
		{"new, none", headers{}, 0, false},
		{"new, all", headers{}, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, exporting := range []bool{false, true} {
				c := &collector{}
				cfg := trace.Config{Sample: tc.share}
				if exporting {
					cfg.Endpoint = c.overHTTP(t)
				}
				tr := newTracer(t, cfg)
				ctx, sc := trace.Extract(t.Context(), tc.in)
				ctx, sp := tr.Begin(ctx, sc, oteltrace.SpanKindServer, op("x"))
				if got := oteltrace.SpanContextFromContext(ctx).IsSampled(); got != tc.sampled {
					t.Errorf("exporting %v: sampled %v", exporting, got)
				}
				if (sp != nil) != (tc.sampled && exporting) {
					t.Errorf("exporting %v: span %v", exporting, sp)
				}
				// What the service starts below follows the call.
				_, own := tr.Provider().Tracer("own").Start(ctx, "own")
				if own.IsRecording() != (tc.sampled && exporting) {
					t.Errorf("exporting %v: a span below is recorded: %v", exporting, own.IsRecording())
				}
				own.End()
				if sp != nil {
					sp.End()
				}
				shutdown(t, tr)
				if want := map[bool]int{true: 2}[tc.sampled && exporting]; len(c.spans) != want {
					t.Errorf("exporting %v: %d spans, want %d", exporting, len(c.spans), want)
				}
			}
		})
	}
}

func TestSetSample(t *testing.T) {
	tr := newTracer(t, trace.Config{})
	share := func() float64 {
		n := 0
		for range 10_000 {
			ctx, _ := tr.Begin(t.Context(), oteltrace.SpanContext{}, oteltrace.SpanKindServer, op("x"))
			if oteltrace.SpanContextFromContext(ctx).IsSampled() {
				n++
			}
		}
		return float64(n) / 10_000
	}
	if got := share(); got != 0 {
		t.Errorf("share %v, want 0", got)
	}
	if err := tr.SetSample(0.3); err != nil {
		t.Fatal(err)
	}
	if got := share(); math.Abs(got-0.3) > 0.05 {
		t.Errorf("share %v, want 0.3", got)
	}
	for _, bad := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if err := tr.SetSample(bad); err == nil || !strings.Contains(err.Error(), "is not a share between 0 and 1") {
			t.Errorf("%v: %v", bad, err)
		}
		if _, err := trace.New(trace.Config{Sample: bad}); err == nil {
			t.Errorf("New takes a share of %v", bad)
		}
	}
	if got := share(); math.Abs(got-0.3) > 0.05 {
		t.Errorf("a bad share changed it to %v", got)
	}
	if err := tr.SetSample(1); err != nil || share() != 1 {
		t.Errorf("share %v, %v, want 1", share(), err)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, want := range map[string]string{
		"collector":       `endpoint "collector" is not a URL`,
		"collector:4318":  "is not a URL",
		"http://":         "is not a URL",
		"ftp://host:21":   `has scheme "ftp", want http, https, grpc or grpcs`,
		"http://host:x":   "is not a URL",
		"://":             "is not a URL",
		"unix:///tmp/otl": "is not a URL",

		"http://u:pwsecret@host:4318":  "OTEL_EXPORTER_OTLP_HEADERS",
		"grpcs://pwsecret@host:4317":   "OTEL_EXPORTER_OTLP_HEADERS",
		"http://u:pw/pwsecret@host":    "OTEL_EXPORTER_OTLP_HEADERS",
		"http://u:pwsecret\x7f@host:1": "OTEL_EXPORTER_OTLP_HEADERS",
	} {
		if _, err := trace.New(trace.Config{Endpoint: endpoint}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pwsecret") {
			t.Errorf("%s: %v, want %q", endpoint, err, want)
		}
	}
	for _, endpoint := range []string{"https://127.0.0.1:1", "grpcs://127.0.0.1:1"} {
		tr, err := trace.New(trace.Config{Endpoint: endpoint})
		if err != nil {
			t.Errorf("%s: %v", endpoint, err)
			continue
		}
		shutdown(t, tr)
	}
}

// TestCollectorDown: spans are lost and told of; calls and the end are not
// held up; and nothing goes to OpenTelemetry's process-wide handler.
func TestCollectorDown(t *testing.T) {
	var global []error
	var mu sync.Mutex
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		global = append(global, err)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for name, tc := range map[string]struct {
		endpoint string
		report   bool
		timeout  time.Duration
	}{
		"http":             {"http://" + addr, true, 10 * time.Second},
		"http, not told":   {"http://" + addr, false, 10 * time.Second},
		"grpc":             {"grpc://" + addr, true, 300 * time.Millisecond},
		"grpc, not told":   {"grpc://" + addr, false, 300 * time.Millisecond},
		"no time is given": {"grpc://" + addr, true, -1},
	} {
		t.Run(name, func(t *testing.T) {
			lost := make(chan error, 10)
			cfg := trace.Config{Endpoint: tc.endpoint, Sample: 1}
			if tc.report {
				cfg.OnError = func(err error) { lost <- err }
			}
			tr := newTracer(t, cfg)
			ctx, sp := tr.Begin(t.Context(), oteltrace.SpanContext{}, oteltrace.SpanKindServer, op("x"))
			sp.End()
			if len(trace.ID(ctx)) != 32 {
				t.Errorf("trace ID %q", trace.ID(ctx))
			}
			ctx, cancel := context.WithTimeout(context.Background(), tc.timeout)
			defer cancel()
			begun := time.Now()
			err := tr.Shutdown(ctx)
			if took := time.Since(begun); took > max(0, tc.timeout)+2*time.Second {
				t.Errorf("Shutdown took %v", took)
			}
			if !tc.report {
				return
			}
			select {
			case err := <-lost:
				if !strings.Contains(err.Error(), "send 1 spans: ") {
					t.Errorf("lost: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("the loss is not reported; Shutdown said %v", err)
			}
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if len(global) > 0 {
		t.Errorf("OpenTelemetry's own handler was told %v", global)
	}
}

// TestShutdownBounded: a collector that hangs does not hold up the end.
func TestShutdownBounded(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	tr := newTracer(t, trace.Config{Endpoint: s.URL, Sample: 1})
	_, sp := tr.Begin(t.Context(), oteltrace.SpanContext{}, oteltrace.SpanKindServer, op("x"))
	sp.End()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := tr.Shutdown(ctx); err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "send the last spans: ") {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Shutdown took %v", took)
	}
}

// TestNothingGlobal: nothing of OpenTelemetry's process-wide state changes.
func TestNothingGlobal(t *testing.T) {
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	c := &collector{}
	tr := newTracer(t, trace.Config{Endpoint: c.overHTTP(t), Sample: 1})
	shutdown(t, tr)
	if otel.GetTracerProvider() != provider || otel.GetTextMapPropagator() != propagator || len(propagator.Fields()) != 0 {
		t.Error("a process-wide default was changed")
	}
}

// TestUnsampledAllocations holds down the cost of a trace that nobody records:
// the context of Begin with the span context in it, and the header that is sent
// on. Recording costs a multiple.
func TestUnsampledAllocations(t *testing.T) {
	c := &collector{}
	tr := newTracer(t, trace.Config{Endpoint: c.overHTTP(t), Sample: 0})
	in := headers{"traceparent": "00-" + id + "-" + span + "-00"}
	out := headers{"traceparent": ""}
	var name trace.Named = op("o.O/Get")
	ctx := t.Context()
	for what, tc := range map[string]struct {
		max float64
		fn  func()
	}{
		"Extract": {0, func() { trace.Extract(ctx, in) }},
		"server": {unsampledServer, func() {
			ctx, sc := trace.Extract(ctx, in)
			tr.Begin(ctx, sc, oteltrace.SpanKindServer, name)
		}},
		"client": {unsampledClient, func() {
			ctx, _ := tr.Begin(ctx, oteltrace.SpanContext{}, oteltrace.SpanKindClient, name)
			trace.Inject(ctx, out)
		}},
	} {
		if n := testing.AllocsPerRun(100, tc.fn); n != tc.max {
			t.Errorf("%s: %v allocations, want %v; if that is for the better, change the number", what, n, tc.max)
		}
	}
}

const (
	unsampledServer = 1
	unsampledClient = 2
)
