package metrics_test

import (
	"bufio"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"plinth.internal/metrics"
)

// series are the values of a metric by their labels, "a=1,b=2" sorted by name.
func series(t *testing.T, m *metrics.Metrics, name string) map[string]*dto.Metric {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*dto.Metric{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			out[strings.Join(labels, ",")] = s
		}
	}
	return out
}

func page(t *testing.T, m *metrics.Metrics, accept string) (contentType, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	m.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Header().Get("Content-Type"), w.Body.String()
}

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New()
		get := m.Server.Method("orders", "o.O", "Get")
		get.Begin()
		get.Begin()
		if v := series(t, m, "plinth_server_calls_in_flight")["method=o.O/Get,service=orders"].GetGauge().GetValue(); v != 2 {
			t.Errorf("%v in flight, want 2", v)
		}
		start := time.Now()
		<-time.After(300 * time.Millisecond)
		get.End(0, "OK", start, 0, "")
		get.End(5, "NOT_FOUND", start.Add(time.Hour), 0, "") // a clock that went back
		if v := series(t, m, "plinth_server_calls_in_flight")["method=o.O/Get,service=orders"].GetGauge().GetValue(); v != 0 {
			t.Errorf("%v in flight, want 0", v)
		}
		durations := series(t, m, "plinth_server_call_duration_seconds")
		if h := durations["code=OK,method=o.O/Get,service=orders"].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 0.3 {
			t.Errorf("OK: %v", h)
		}
		if h := durations["code=NOT_FOUND,method=o.O/Get,service=orders"].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 0 {
			t.Errorf("NOT_FOUND: %v", h)
		}
		pay := m.Client.Method("billing", "b.B", "Pay")
		for _, attempts := range []int{1, 3, 0} {
			pay.Begin()
			pay.End(0, "OK", time.Now(), attempts, "")
		}
		if v := series(t, m, "plinth_client_attempts_total")["method=b.B/Pay,service=billing"].GetCounter().GetValue(); v != 4 {
			t.Errorf("%v attempts, want 4", v)
		}
		if m.Client.Method("billing", "b.B", "Pay") != pay || m.Client.Method("billing", "", "GET") == pay {
			t.Error("methods are mixed up")
		}
		if len(series(t, m, "plinth_client_calls_in_flight")) != 2 {
			t.Error("a method without a group is missing")
		}
	})
}

// TestCodes: a code that nobody knows adds no series of its own.
func TestCodes(t *testing.T) {
	m := metrics.New()
	method := m.Server.Method("s", "g", "m")
	for code := -5; code < 100; code++ {
		method.Begin()
		label := "OTHER"
		if code >= 0 && code < 17 {
			label = fmt.Sprint("C", code)
		}
		method.End(code, label, time.Now(), 0, "")
	}
	if n := len(series(t, m, "plinth_server_call_duration_seconds")); n != 18 {
		t.Errorf("%d series, want 18", n)
	}
	if n := series(t, m, "plinth_server_call_duration_seconds")["code=OTHER,method=g/m,service=s"].GetHistogram().GetSampleCount(); n != 105-17 {
		t.Errorf("%d others", n)
	}
}

// TestBounds: however many methods and services are named, the series are few.
func TestBounds(t *testing.T) {
	m := metrics.New()
	for i := range 1500 {
		m.Server.Method("orders", "", fmt.Sprint("m", i)).Begin()
	}
	got := series(t, m, "plinth_server_calls_in_flight")
	if len(got) != 1001 {
		t.Errorf("%d methods, want 1000 and other", len(got))
	}
	if n := got["method=other,service=orders"].GetGauge().GetValue(); n != 500 {
		t.Errorf("%v calls of other methods, want 500", n)
	}
	if a, b := m.Server.Method("orders", "", "m1499"), m.Server.Method("orders", "", "m1400"); a != b {
		t.Error("methods beyond the bound have instruments of their own")
	}
	if m.Server.Method("orders", "", "m7") == m.Server.Method("orders", "", "m8") {
		t.Error("known methods share instruments")
	}
	for i := range 3000 {
		m.Server.Method(fmt.Sprint("s", i), "", "m").Begin()
	}
	got = series(t, m, "plinth_server_calls_in_flight")
	if len(got) > 2001 || got["method=other,service=other"] == nil || got["method=other,service=s1"] == nil {
		t.Errorf("%d series after 3000 services", len(got))
	}
	if n := testing.AllocsPerRun(100, func() { m.Server.Method("orders", "", "beyond") }); n > 2 {
		t.Errorf("%v allocations for a method beyond the bound", n)
	}
}

func TestExemplars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metrics.New()
		method := m.Server.Method("orders", "o.O", "Get")
		call := func(took time.Duration, traceID string) {
			method.Begin()
			method.End(0, "OK", time.Now().Add(-took), 0, traceID)
		}
		call(time.Millisecond, "first")
		call(time.Millisecond, "too soon")
		<-time.After(10 * time.Millisecond)
		call(time.Second, "second")
		<-time.After(10 * time.Millisecond)
		for _, bad := range []string{strings.Repeat("x", 200), "\xff", ""} { // none of these may panic
			call(2*time.Second, bad)
		}
		kind, body := page(t, m, "application/openmetrics-text; version=1.0.0")
		if !strings.HasPrefix(kind, "application/openmetrics-text") {
			t.Errorf("content type %s", kind)
		}
		for _, want := range []string{`le="0.001"} 2 # {trace_id="first"} 0.001`, `le="1.0"} 3 # {trace_id="second"} 1.0`, "# EOF\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("the page does not say %s", want)
			}
		}
		if n := strings.Count(body, "trace_id"); n != 2 {
			t.Errorf("%d exemplars, want 2", n)
		}
		// In the old format there are none, and a trace ID is never a label.
		kind, body = page(t, m, "text/plain")
		if !strings.HasPrefix(kind, "text/plain") || strings.Contains(body, "trace_id") {
			t.Errorf("content type %s, a trace ID in the text: %v", kind, strings.Contains(body, "trace_id"))
		}
	})
}

func TestStates(t *testing.T) {
	m := metrics.New()
	for _, current := range []string{"ok", "down", "ok"} {
		m.SetHealth(current, "ok", "degraded", "down")
		m.SetRegistry(current, "ok", "down")
		for name, n := range map[string]int{"plinth_health_state": 3, "plinth_registry_state": 2} {
			got := series(t, m, name)
			sum := 0.0
			for _, s := range got {
				sum += s.GetGauge().GetValue()
			}
			if len(got) != n || sum != 1 || got["state="+current].GetGauge().GetValue() != 1 {
				t.Errorf("%s at %s: %v", name, current, got)
			}
		}
	}
	m.SetCheck("db", true)
	m.SetCheck("cache", false)
	if got := series(t, m, "plinth_health_check_up"); got["check=db"].GetGauge().GetValue() != 1 || got["check=cache"].GetGauge().GetValue() != 0 {
		t.Errorf("checks %v", got)
	}
	m.SetView("billing", 1500*time.Millisecond, map[string]int{"up": 3, "draining": 1})
	m.SetView("orders", -time.Second, nil)
	if got := series(t, m, "plinth_registry_view_age_seconds"); got["service=billing"].GetGauge().GetValue() != 1.5 || got["service=orders"].GetGauge().GetValue() != 0 {
		t.Errorf("ages %v", got)
	}
	if got := series(t, m, "plinth_registry_instances"); len(got) != 2 || got["service=billing,state=up"].GetGauge().GetValue() != 3 {
		t.Errorf("instances %v", got)
	}
}

// TestPrivate: two registries know nothing of one another, nor does prometheus'
// own; a service's metrics stand beside the framework's.
func TestPrivate(t *testing.T) {
	a, b := metrics.New(), metrics.New()
	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "orders_paid_total", Help: "Orders that were paid."})
	if err := a.Registerer().Register(own); err != nil {
		t.Fatal(err)
	}
	own.Inc()
	if series(t, a, "orders_paid_total")[""].GetCounter().GetValue() != 1 || len(series(t, b, "orders_paid_total")) != 0 {
		t.Error("registries are mixed up")
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "plinth_") {
			t.Errorf("%s is in the default registry", f.GetName())
		}
	}
	for range 2 { // a handler can be had twice
		if _, body := page(t, a, ""); !strings.Contains(body, "go_goroutines") || !strings.Contains(body, "process_") || !strings.Contains(body, "orders_paid_total 1") {
			t.Error("the page is not complete")
		}
	}
}

// TestPage: each line can be read, names have the prefix and a unit.
func TestPage(t *testing.T) {
	m := metrics.New()
	m.Server.Method(`we"ird`, "", "new\nline\\").Begin()
	_, body := page(t, m, "")
	line := regexp.MustCompile(`^(# (HELP|TYPE) \w+ .*|\w+(\{.*\})? [-+\w.]+)$`)
	for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); {
		if !line.MatchString(s.Text()) {
			t.Errorf("cannot read %q", s.Text())
		}
	}
}

func TestAllocations(t *testing.T) {
	m := metrics.New()
	method := m.Client.Method("billing", "b.B", "Pay")
	start := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		method.Begin()
		method.End(0, "OK", start, 1, "")
	}); n != 0 {
		t.Errorf("Begin and End: %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() { m.Client.Method("billing", "b.B", "Pay") }); n != 0 {
		t.Errorf("Method: %v allocations", n)
	}
}

// TestConcurrent uses everything at once while it is read.
func TestConcurrent(t *testing.T) {
	m := metrics.New()
	const workers, n = 8, 300
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range n {
				method := m.Server.Method("orders", "o.O", fmt.Sprint("M", i%50))
				method.Begin()
				method.End(i%20, fmt.Sprint("C", min(i%20, 17)), time.Now(), 0, "abc")
				m.SetHealth("ok", "ok", "down")
				if i%100 == w {
					if _, err := m.Gatherer().Gather(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	var count uint64
	for _, s := range series(t, m, "plinth_server_call_duration_seconds") {
		count += s.GetHistogram().GetSampleCount()
	}
	if count != workers*n {
		t.Errorf("%d calls are counted, want %d", count, workers*n)
	}
	for labels, s := range series(t, m, "plinth_server_calls_in_flight") {
		if v := s.GetGauge().GetValue(); v != 0 || math.Signbit(v) {
			t.Errorf("%s: %v in flight", labels, v)
		}
	}
}

// TestPolicies: what the client's policies and the server's bounce count.
func TestPolicies(t *testing.T) {
	m := metrics.New()
	if s := series(t, m, "plinth_server_bounces_total"); len(s) != 1 {
		t.Errorf("a server without bounces shows %v", s)
	}
	m.CountServerBounce()
	m.CountServerBounce()
	m.Bounces.WithLabelValues("billing").Inc()
	m.Hedges.WithLabelValues("billing", "won").Inc()
	m.Ejections.WithLabelValues("billing", "consecutive").Inc()
	for name, want := range map[string]struct {
		labels string
		value  float64
	}{
		"plinth_server_bounces_total":   {"", 2},
		"plinth_client_bounces_total":   {"service=billing", 1},
		"plinth_client_hedges_total":    {"outcome=won,service=billing", 1},
		"plinth_client_ejections_total": {"reason=consecutive,service=billing", 1},
	} {
		if got := series(t, m, name)[want.labels].GetCounter().GetValue(); got != want.value {
			t.Errorf("%s is %v, want %v", name, got, want.value)
		}
	}
}
