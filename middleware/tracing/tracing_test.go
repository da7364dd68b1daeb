package tracing_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	oteltrace "go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"plinth.internal/middleware"
	"plinth.internal/middleware/tracing"
	"plinth.internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "0af7651916cd43dd8448eb211c80319c"

// record runs fn with a tracer that exports, and returns the spans.
func record(t *testing.T, fn func(*trace.Tracer)) []*tracepb.Span {
	t.Helper()
	var spans []*tracepb.Span
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		req := new(collectorpb.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(body, req)
		}
		if err != nil {
			t.Error(err)
		}
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				spans = append(spans, ss.GetSpans()...)
			}
		}
	}))
	defer s.Close()
	tracer, err := trace.New(trace.Config{Endpoint: s.URL, Sample: 1, OnError: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	fn(tracer)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tracer.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	return spans
}

// attributes are those of a span, as text.
func attributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.GetAttributes() {
		if s := a.GetValue().GetStringValue(); s != "" {
			out[a.GetKey()] = s
		} else {
			out[a.GetKey()] = strconv.FormatInt(a.GetValue().GetIntValue(), 10)
		}
	}
	return out
}

// serve makes a request to a handler behind a chain.
func serve(h http.HandlerFunc, header [2]string, chain ...middleware.Middleware) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/items/7", nil)
	if header[0] != "" {
		r.Header.Set(header[0], header[1])
	}
	middleware.HTTPServer("shop", "GET /items/{id}", h, chain...).ServeHTTP(w, r)
	return w
}

func TestServerAttributes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(*middleware.Call) // makes another kind of call of the HTTP one
		err   error
		want  map[string]string
		fails bool
	}{
		{"http", nil, nil, map[string]string{"http.route": "GET /items/{id}", "http.response.status_code": "200"}, false},
		{"http not found", nil, &middleware.HTTPError{Status: 404}, map[string]string{"http.response.status_code": "404"}, false},
		{"http wrong method", nil, &middleware.HTTPError{Status: 405}, map[string]string{"http.response.status_code": "405"}, false},
		{"http failed", nil, &middleware.HTTPError{Status: 503}, map[string]string{"http.response.status_code": "503"}, true},
		{"grpc", grpcCall, nil, map[string]string{"rpc.system": "grpc", "rpc.service": "o.O", "rpc.method": "Get", "rpc.grpc.status_code": "0"}, false},
		{"grpc not found", grpcCall, status.Error(codes.NotFound, "no"), map[string]string{"rpc.grpc.status_code": "5"}, false},
		{"grpc failed", grpcCall, errors.New("no"), map[string]string{"rpc.grpc.status_code": "2"}, true},
		{"grpc late", grpcCall, context.DeadlineExceeded, map[string]string{"rpc.grpc.status_code": "4"}, true},
	} {
		spans := record(t, func(tr *trace.Tracer) {
			chain := []middleware.Middleware{edit(tc.edit), tracing.Server(tr), answer(tc.err)}
			serve(nil, [2]string{}, chain...)
		})
		if len(spans) != 1 {
			t.Errorf("%s: %d spans", tc.name, len(spans))
			continue
		}
		got := attributes(spans[0])
		for k, v := range tc.want {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q; all: %v", tc.name, k, got[k], v, got)
			}
		}
		if failed := spans[0].GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed != tc.fails || failed && spans[0].GetStatus().GetMessage() == "" {
			t.Errorf("%s: status %v", tc.name, spans[0].GetStatus())
		}
		if spans[0].GetKind() != tracepb.Span_SPAN_KIND_SERVER || spans[0].GetName() == "" {
			t.Errorf("%s: span %v", tc.name, spans[0])
		}
	}
}

func grpcCall(c *middleware.Call) {
	c.Kind, c.Service, c.Method = middleware.ServerUnary, "o.O", "Get"
}

func edit(fn func(*middleware.Call)) middleware.Middleware {
	if fn == nil {
		return nil
	}
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error { fn(c); return next(ctx, c) }
	}
}

func answer(err error) middleware.Middleware {
	return func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error { return err }
	}
}

func TestClientAttributes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		err   error
		want  map[string]string
		fails bool
	}{
		{"fine", nil, map[string]string{
			"http.request.method": "GET", "http.response.status_code": "200",
			"plinth.target": "billing", "plinth.instance": "billing-1", "plinth.attempts": "2",
		}, false},
		// To a client every failure is one.
		{"not found", &middleware.HTTPError{Status: 404}, map[string]string{"http.response.status_code": "404"}, true},
		{"cancelled", context.Canceled, map[string]string{"http.response.status_code": "499"}, true},
	} {
		spans := record(t, func(tr *trace.Tracer) {
			rt := middleware.RoundTripper("billing", nil, tracing.Client(tr), edit(func(c *middleware.Call) {
				c.Attempts, c.Instance = 2, "billing-1"
			}), answer(tc.err))
			resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://billing/x", nil))
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s: a response", tc.name)
			}
		})
		if len(spans) != 1 || spans[0].GetKind() != tracepb.Span_SPAN_KIND_CLIENT {
			t.Errorf("%s: spans %v", tc.name, spans)
			continue
		}
		got := attributes(spans[0])
		for k, v := range tc.want {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q; all: %v", tc.name, k, got[k], v, got)
			}
		}
		if failed := spans[0].GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed != tc.fails {
			t.Errorf("%s: status %v", tc.name, spans[0].GetStatus())
		}
	}
}

// TestTraceID: the caller's ID is the handler's, the call's and the response's,
// whether anything is recorded or not, and goes on with the calls made.
func TestTraceID(t *testing.T) {
	for _, sample := range []float64{0, 1} {
		tracer, err := trace.New(trace.Config{Sample: sample})
		if err != nil {
			t.Fatal(err)
		}
		for _, header := range [][2]string{
			{"traceparent", "00-" + id + "-b7ad6b7169203331-01"}, {"X-Trace-Id", strings.ToUpper(id)}, {},
		} {
			var inHandler, inCall string
			sent := http.Header{}
			w := serve(func(_ http.ResponseWriter, r *http.Request) {
				inHandler = trace.ID(r.Context())
				base := transport(func(r *http.Request) (*http.Response, error) {
					sent = r.Header
					return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
				})
				m, err := baggage.NewMember("user", "7")
				if err != nil {
					t.Fatal(err)
				}
				b, err := baggage.New(m)
				if err != nil {
					t.Fatal(err)
				}
				out, err := http.NewRequestWithContext(baggage.ContextWithBaggage(r.Context(), b), http.MethodGet, "http://billing/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := middleware.RoundTripper("billing", base, tracing.Client(tracer)).RoundTrip(out)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}, header, tracing.Server(tracer), edit(func(c *middleware.Call) { inCall = c.TraceID }))
			if inHandler != inCall || len(inCall) != 32 || w.Header().Get("X-Trace-Id") != inCall || header[0] != "" && inCall != id {
				t.Errorf("%v: handler %q, call %q, response %q", header, inHandler, inCall, w.Header())
			}
			if tp := sent.Get("Traceparent"); len(tp) != 55 || tp[3:35] != inCall || sent.Get("Baggage") != "user=7" || tp[36:52] == "b7ad6b7169203331" {
				t.Errorf("%v: sent on %v", header, sent)
			}
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestClientBegins: a call that nothing stands above has a trace of its own.
func TestClientBegins(t *testing.T) {
	tracer, err := trace.New(trace.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		rt := middleware.RoundTripper("billing", nil, tracing.Client(tracer), func(middleware.Handler) middleware.Handler {
			return func(ctx context.Context, c *middleware.Call) error {
				if c.TraceID != trace.ID(ctx) || oteltrace.SpanContextFromContext(ctx).IsSampled() {
					t.Errorf("call %q, context %q", c.TraceID, trace.ID(ctx))
				}
				ids = append(ids, c.TraceID)
				return errors.New("no")
			}
		})
		if resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://billing/x", nil)); err == nil {
			resp.Body.Close()
		}
	}
	if len(ids) != 2 || len(ids[0]) != 32 || ids[0] == ids[1] {
		t.Errorf("trace IDs %q", ids)
	}
}
