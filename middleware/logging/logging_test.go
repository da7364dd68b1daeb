package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/log"
	"plinth.internal/middleware"
	"plinth.internal/middleware/logging"
)

func newLog(t *testing.T, level string, out *bytes.Buffer, ids func(context.Context) (string, string)) *log.Log {
	t.Helper()
	l, err := log.New(log.Config{Level: level, Format: log.FormatJSON, Output: out, IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// lines decodes what was logged.
func lines(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for dec := json.NewDecoder(out); dec.More(); {
		var m map[string]any
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// probe is a call as a server without a transport would have it: through HTTP,
// whose adapter needs nothing but a recorder.
func probe(m middleware.Middleware, h http.HandlerFunc, chain ...middleware.Middleware) {
	handler := middleware.HTTPServer("shop", "GET /items/{id}", h, append([]middleware.Middleware{m}, chain...)...)
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/items/7", nil))
}

func TestServerLevels(t *testing.T) {
	for _, tc := range []struct {
		service string
		code    codes.Code
		want    string
	}{
		{"s.S", codes.OK, "info"},
		{"s.S", codes.NotFound, "info"},
		{"s.S", codes.Canceled, "info"},
		{"s.S", codes.Unavailable, "warn"},
		{"s.S", codes.DeadlineExceeded, "warn"},
		{"s.S", codes.ResourceExhausted, "warn"},
		{"s.S", codes.Internal, "error"},
		{"s.S", codes.Unknown, "error"},
		{"s.S", codes.Unimplemented, "error"},
		{"s.S", codes.DataLoss, "error"},
		{"grpc.health.v1.Health", codes.OK, "debug"},
		{"grpc.health.v1.Health", codes.Unavailable, "debug"},
		{"grpc.reflection.v1.ServerReflection", codes.Internal, "debug"},
	} {
		var out bytes.Buffer
		rename := func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, c *middleware.Call) error {
				c.Kind, c.Service, c.Method = middleware.ServerUnary, tc.service, "Get"
				return next(ctx, c)
			}
		}
		var err error
		if tc.code != codes.OK {
			err = status.Error(tc.code, "no")
		}
		fail := func(middleware.Handler) middleware.Handler {
			return func(context.Context, *middleware.Call) error { return err }
		}
		probe(rename, nil, logging.Server(newLog(t, "debug", &out, nil)), fail)
		got := lines(t, &out)
		if len(got) != 1 || got[0]["level"] != tc.want {
			t.Errorf("%s %v: logged %v, want level %s", tc.service, tc.code, got, tc.want)
			continue
		}
		if l := got[0]; l["msg"] != "call received" || l["method"] != tc.service+"/Get" || l["code"] != middleware.CodeName(tc.code) || l["status"] != nil {
			t.Errorf("logged %v", l)
		}
		if text, _ := got[0]["error"].(string); (text != "") != (err != nil) {
			t.Errorf("%v: error is %q", tc.code, text)
		}
	}
}

// TestUnmatched: what is not there is no fault of the server's, as a 404 is none.
func TestUnmatched(t *testing.T) {
	var out bytes.Buffer
	rename := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			c.Kind, c.Service, c.Method = middleware.ServerStream, "", middleware.Unmatched
			return next(ctx, c)
		}
	}
	fail := func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error {
			return status.Error(codes.Unimplemented, "unknown service")
		}
	}
	probe(rename, nil, logging.Server(newLog(t, "debug", &out, nil)), fail)
	if got := lines(t, &out); len(got) != 1 || got[0]["level"] != "info" || got[0]["method"] != "unmatched" {
		t.Errorf("logged %v", got)
	}
}

// turnedAwayError is the error of a call for which nothing was done.
type turnedAwayError struct{ error }

func (turnedAwayError) Unprocessed() bool { return true }
func (e turnedAwayError) Unwrap() error   { return e.error }

// TestTurnedAway: there may be thousands of them in a second.
func TestTurnedAway(t *testing.T) {
	var out bytes.Buffer
	fail := func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error {
			return turnedAwayError{status.Error(codes.ResourceExhausted, "no")}
		}
	}
	probe(logging.Server(newLog(t, "debug", &out, nil)), nil, fail)
	if got := lines(t, &out); len(got) != 1 || got[0]["level"] != "debug" {
		t.Errorf("logged %v", got)
	}
}

func TestServerHTTP(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, "info", &out, func(context.Context) (string, string) { return "from-context", "" })
	probe(logging.Server(l), func(w http.ResponseWriter, r *http.Request) {
		log.From(r.Context()).Info("in the handler", zap.Int("n", 1))
		http.Error(w, "no", http.StatusTeapot)
	})
	got := lines(t, &out)
	if len(got) != 2 {
		t.Fatalf("logged %v", got)
	}
	if h := got[0]; h["msg"] != "in the handler" || h["trace_id"] != "from-context" {
		t.Errorf("the handler logged %v", h)
	}
	c := got[1]
	if c["method"] != "GET /items/{id}" || c["status"] != 418.0 || c["code"] != "FAILED_PRECONDITION" ||
		c["peer"] != "192.0.2.1:1234" || c["trace_id"] != "from-context" {
		t.Errorf("the call is logged as %v", c)
	}
	if d, ok := c["duration_ms"].(float64); !ok || d <= 0 {
		t.Errorf("duration_ms = %v", c["duration_ms"])
	}
}

// TestTraceIDOfTheCall: what the tracing middleware found wins, and is not
// written twice.
func TestTraceIDOfTheCall(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, "info", &out, func(context.Context) (string, string) { return "other", "" })
	h := logging.Server(l)(func(context.Context, *middleware.Call) error { return nil })
	handler := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error { c.TraceID = "mine"; return h(ctx, c) }
	}
	probe(handler, nil)
	if n := bytes.Count(out.Bytes(), []byte("trace_id")); n != 1 {
		t.Errorf("trace_id is written %d times: %s", n, out.String())
	}
	if got := lines(t, &out); len(got) != 1 || got[0]["trace_id"] != "mine" {
		t.Errorf("logged %v", got)
	}
}

func TestClient(t *testing.T) {
	for _, tc := range []struct {
		name     string
		err      error
		attempts int
		want     string
	}{
		{"fine", nil, 1, "debug"},
		{"after a retry", nil, 2, "info"},
		{"failed", errors.New("no"), 1, "info"},
	} {
		var out bytes.Buffer
		call := &middleware.Call{Kind: middleware.ClientUnary, Target: "billing", Service: "s.S", Method: "Get"}
		err := logging.Client(newLog(t, "debug", &out, nil))(func(_ context.Context, c *middleware.Call) error {
			c.Attempts, c.Instance = tc.attempts, "billing-1"
			return tc.err
		})(t.Context(), call)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: err = %v", tc.name, err)
		}
		got := lines(t, &out)
		if len(got) != 1 || got[0]["level"] != tc.want || got[0]["target"] != "billing" || got[0]["instance"] != "billing-1" ||
			got[0]["attempts"] != float64(tc.attempts) || got[0]["msg"] != "call made" || got[0]["peer"] != nil {
			t.Errorf("%s: logged %v, want level %s", tc.name, got, tc.want)
		}
	}
}

// TestNothingLoggedCostsNothing: a line below the level is not put together.
func TestNothingLoggedCostsNothing(t *testing.T) {
	var out bytes.Buffer
	call := &middleware.Call{Kind: middleware.ClientUnary, Target: "billing", Service: "s.S", Method: "Get"}
	fails := status.Error(codes.NotFound, "no")
	for name, err := range map[string]error{"fine": nil, "failed": fails} {
		h := logging.Client(newLog(t, "error", &out, nil))(func(context.Context, *middleware.Call) error { return err })
		if n := testing.AllocsPerRun(100, func() { _ = h(t.Context(), call) }); n != 0 {
			t.Errorf("%s: %v allocations for a line that is not written", name, n)
		}
	}
	// On the server the handler's logger travels in the context: one value.
	h := logging.Server(newLog(t, "error", &out, nil))(func(context.Context, *middleware.Call) error { return nil })
	call.Kind = middleware.ServerUnary
	if n := testing.AllocsPerRun(100, func() { _ = h(t.Context(), call) }); n > 1 {
		t.Errorf("the server's middleware costs %v allocations for a line that is not written", n)
	}
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
}

// TestFieldsAreNotMixed runs calls side by side: pooled fields must not leak
// from one line into another.
func TestFieldsAreNotMixed(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, "debug", &out, nil)
	const n = 50
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			call := &middleware.Call{Kind: middleware.ClientUnary, Target: "t", Method: "A", TraceID: "A"}
			var err error
			if i%2 == 0 {
				call.Kind, call.Method, call.TraceID = middleware.ClientHTTP, "B", "B"
				err = &middleware.HTTPError{Status: 404}
			}
			_ = logging.Client(l)(func(context.Context, *middleware.Call) error { return err })(context.Background(), call)
		}()
	}
	for range n {
		<-done
	}
	got := lines(t, &out)
	if len(got) != n {
		t.Fatalf("%d lines, want %d", len(got), n)
	}
	for _, l := range got {
		http := l["method"] == "B"
		if l["trace_id"] != l["method"] || (l["status"] != nil) != http || (l["error"] != nil) != http {
			t.Errorf("mixed line %v", l)
		}
	}
}
