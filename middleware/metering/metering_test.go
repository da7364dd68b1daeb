package metering_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/metrics"
	"plinth.internal/middleware"
	"plinth.internal/middleware/metering"
)

// labels gathers the series of a metric as "service method code".
func labels(t *testing.T, m *metrics.Metrics, name string) map[string]float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			var key strings.Builder
			for _, want := range []string{"service", "method", "code"} {
				for _, l := range s.GetLabel() {
					if l.GetName() == want {
						key.WriteString(l.GetValue() + " ")
					}
				}
			}
			out[key.String()] = s.GetGauge().GetValue() + s.GetCounter().GetValue() + float64(s.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestLabels(t *testing.T) {
	m := metrics.New()
	run := func(side middleware.Middleware, call middleware.Call, err error) {
		t.Helper()
		call.Start = time.Now()
		if got := side(func(_ context.Context, c *middleware.Call) error { c.Attempts = 3; return err })(t.Context(), &call); !errors.Is(got, err) {
			t.Errorf("err = %v", got)
		}
	}
	server, client := metering.Server(m.Server, "orders"), metering.Client(m.Client)
	run(server, middleware.Call{Kind: middleware.ServerUnary, Service: "o.O", Method: "Get"}, nil)
	run(server, middleware.Call{Kind: middleware.ServerStream, Service: "o.O", Method: "Watch"}, status.Error(codes.NotFound, "no"))
	run(server, middleware.Call{Kind: middleware.ServerHTTP, Service: "orders", Method: "GET /x"}, &middleware.HTTPError{Status: 503})
	run(client, middleware.Call{Kind: middleware.ClientUnary, Target: "billing", Service: "b.B", Method: "Pay"}, nil)
	run(client, middleware.Call{Kind: middleware.ClientHTTP, Target: "billing", Service: "billing", Method: "GET"}, context.Canceled)

	for name, want := range map[string][]string{
		"plinth_server_call_duration_seconds": {"orders o.O/Get OK ", "orders o.O/Watch NOT_FOUND ", "orders GET /x UNAVAILABLE "},
		"plinth_client_call_duration_seconds": {"billing b.B/Pay OK ", "billing GET CANCELLED "},
	} {
		got := labels(t, m, name)
		if len(got) != len(want) {
			t.Errorf("%s: %v", name, got)
		}
		for _, w := range want {
			if got[w] != 1 {
				t.Errorf("%s: %q was observed %v times: %v", name, w, got[w], got)
			}
		}
	}
	if got := labels(t, m, "plinth_client_attempts_total"); got["billing b.B/Pay "] != 3 || got["billing GET "] != 3 {
		t.Errorf("attempts: %v", got)
	}
}

func TestInFlight(t *testing.T) {
	m := metrics.New()
	call := &middleware.Call{Kind: middleware.ServerUnary, Service: "o.O", Method: "Get"}
	measured := metering.Server(m.Server, "orders")
	inFlight := func() float64 { return labels(t, m, "plinth_server_calls_in_flight")["orders o.O/Get "] }
	_ = measured(func(context.Context, *middleware.Call) error {
		if got := inFlight(); got != 1 {
			t.Errorf("%v calls are in flight, want 1", got)
		}
		return nil
	})(t.Context(), call)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = measured(func(context.Context, *middleware.Call) error { runtime.Goexit(); return nil })(t.Context(), call)
	}()
	<-done
	if got := inFlight(); got != 0 {
		t.Errorf("%v calls are in flight, want 0", got)
	}
	if got := labels(t, m, "plinth_server_call_duration_seconds"); got["orders o.O/Get INTERNAL "] != 1 {
		t.Errorf("the call that ended its goroutine is counted as %v", got)
	}
}

func TestAllocations(t *testing.T) {
	m := metrics.New()
	h := metering.Server(m.Server, "orders")(func(context.Context, *middleware.Call) error { return nil })
	call := &middleware.Call{Kind: middleware.ServerUnary, Service: "o.O", Method: "Get", Start: time.Now()}
	_ = h(t.Context(), call)
	if n := testing.AllocsPerRun(100, func() { _ = h(t.Context(), call) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
