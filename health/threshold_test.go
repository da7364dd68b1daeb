package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/health"
)

// TestThresholds goes through runs that pass (.) and fail (x), and holds the
// status after each: ok (o) or down (d).
func TestThresholds(t *testing.T) {
	for _, tc := range []struct {
		fail, pass int // 0 for the default
		runs, want string
	}{
		{1, 1, ".x.xx.", "ododdo"},
		{0, 0, ".x.xx.", "oooodo"}, // defaults: two failures in a row
		{3, 1, ".xx.xxxx.", "ooooooddo"},
		{1, 3, ".x..x...", "oddddddo"},
		{2, 2, "x..x.xx..", "ddooooddo"},
		{5, 4, "x", "d"}, // what never passed is down at once
		{5, 4, ".", "o"}, // and ok at once
	} {
		t.Run(fmt.Sprint(tc.fail, tc.pass, tc.runs), func(t *testing.T) {
			h := health.New()
			h.SetPhase(health.Serving)
			var fails bool
			var failed int
			add(t, h, "it", func(context.Context) error {
				if fails {
					return fmt.Errorf("failure %d", failed)
				}
				return nil
			}, health.FailureThreshold(tc.fail), health.SuccessThreshold(tc.pass))
			row := 0
			for i, run := range tc.runs {
				if fails = run == 'x'; fails {
					failed++
					row++
				} else {
					row = 0
				}
				err := h.Check(t.Context())
				r := result(t, h, "it")
				want := health.StatusOK
				if tc.want[i] == 'd' {
					want = health.StatusDown
				}
				if r.Status != want || h.Ready() != (want == health.StatusOK) || (err == nil) != (want == health.StatusOK) {
					t.Fatalf("run %d: %+v, ready %v, %v; want %s", i, r, h.Ready(), err, want)
				}
				if r.Failures != row {
					t.Errorf("run %d: %d failures in a row, want %d", i, r.Failures, row)
				}
				// The reason is there whenever something is wrong, and only then.
				if wrong := fails || want == health.StatusDown; (r.Error != "") != wrong {
					t.Errorf("run %d: error %q", i, r.Error)
				}
				if last := fmt.Sprintf("failure %d", failed); failed > 0 && (r.LastError != last || r.LastErrorAt.IsZero()) {
					t.Errorf("run %d: last error %q at %v, want %q", i, r.LastError, r.LastErrorAt, last)
				}
				if !fails && want == health.StatusDown && !strings.Contains(r.Error, "in a row that are wanted after: failure") {
					t.Errorf("run %d: error %q does not say what it waits for", i, r.Error)
				}
			}
		})
	}
}

// TestConfirmation: what a threshold waits for is found out in seconds, however
// long the interval is, and then the interval counts again.
func TestConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		h.SetPhase(health.Serving)
		var fails atomic.Bool
		var runs atomic.Int64
		add(t, h, "it", func(context.Context) error {
			runs.Add(1)
			if fails.Load() {
				return errors.New("no")
			}
			return nil
		}, health.Interval(time.Minute), health.FailureThreshold(3), health.SuccessThreshold(2))
		start(t, h)
		synctest.Wait()
		fails.Store(true)
		<-time.After(72*time.Second + 2*1200*time.Millisecond + time.Millisecond) // an interval and two confirmations, jitter included
		if r := result(t, h, "it"); r.Status != health.StatusDown || r.Failures < 3 {
			t.Fatalf("%+v, want down", r)
		}
		before := runs.Load()
		<-time.After(40 * time.Second)
		if n := runs.Load() - before; n > 1 {
			t.Errorf("%d runs within 40 s after it was down, want its interval", n)
		}
		fails.Store(false)
		<-time.After(72*time.Second + 1200*time.Millisecond + time.Millisecond)
		if r := result(t, h, "it"); r.Status != health.StatusOK {
			t.Errorf("%+v, want ok", r)
		}
	})
}

// TestHungReachesThreshold: a check that hangs fails each of its turns, although
// it is not started again.
func TestHungReachesThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		h.SetPhase(health.Serving)
		release := make(chan struct{})
		var runs atomic.Int64
		add(t, h, "it", func(context.Context) error {
			if runs.Add(1) == 2 {
				<-release
			}
			return nil
		})
		start(t, h)
		<-time.After(6*time.Second + health.DefaultTimeout + 1300*time.Millisecond)
		if r := result(t, h, "it"); r.Status != health.StatusDown || r.Failures < 2 || h.Ready() {
			t.Errorf("%+v, ready %v; want down with two failures", r, h.Ready())
		}
		if runs.Load() != 2 {
			t.Errorf("%d runs, want the one that hangs to be the last", runs.Load())
		}
		close(release)
		<-time.After(2 * health.DefaultInterval)
		if r := result(t, h, "it"); r.Status != health.StatusOK || !h.Ready() {
			t.Errorf("%+v after it came back", r)
		}
	})
}

func TestStartupOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		var runs atomic.Int64
		add(t, h, "migrated", func(context.Context) error {
			if runs.Add(1) < 3 {
				return errors.New("schema 41, want 42")
			}
			return nil
		}, health.StartupOnly())
		if r := result(t, h, "migrated"); !r.StartupOnly || !r.Critical || r.Status != health.StatusPending {
			t.Errorf("%+v", r)
		}
		for i := range 2 {
			if err := h.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "schema 41") {
				t.Errorf("round %d: %v", i, err)
			}
		}
		if err := h.Check(t.Context()); err != nil {
			t.Error(err)
		}
		h.SetPhase(health.Serving)
		start(t, h)
		<-time.After(time.Hour)
		if err := h.Check(t.Context()); err != nil || runs.Load() != 3 || !h.Ready() {
			t.Errorf("%v, %d runs, ready %v; want 3 runs, the last of which passed", err, runs.Load(), h.Ready())
		}
	})
}

// TestStartupOnlyByRun: without Check, Run sees to it.
func TestStartupOnlyByRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		h.SetPhase(health.Serving)
		var runs atomic.Int64
		add(t, h, "it", func(context.Context) error {
			if runs.Add(1) < 3 {
				return errors.New("no")
			}
			return nil
		}, health.StartupOnly(), health.Interval(time.Second))
		start(t, h)
		<-time.After(time.Minute)
		if runs.Load() != 3 || !h.Ready() {
			t.Errorf("%d runs, ready %v", runs.Load(), h.Ready())
		}
	})
}

// TestOneRun: who asks while a check runs gets the outcome of that run.
func TestOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		var runs atomic.Int64
		add(t, h, "it", func(context.Context) error {
			runs.Add(1)
			<-time.After(time.Second)
			return nil
		})
		start(t, h)
		synctest.Wait() // Run has begun the first one
		begun := time.Now()
		if err := h.Check(t.Context()); err != nil || time.Since(begun) != time.Second || runs.Load() != 1 {
			t.Errorf("%v after %v, %d runs; want the outcome of the one run", err, time.Since(begun), runs.Load())
		}
	})
}

// TestTimeoutTellsWhy: a check that says at its timeout what it was waiting for
// is heard.
func TestTimeoutTellsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		add(t, h, "it", func(ctx context.Context) error {
			<-ctx.Done()
			<-time.After(time.Millisecond)
			return fmt.Errorf("waiting for a connection to 10.0.0.7: %w", ctx.Err())
		})
		err := h.Check(t.Context())
		r := result(t, h, "it")
		if want := "no answer within 2s: waiting for a connection to 10.0.0.7: context deadline exceeded"; r.Error != want || err == nil {
			t.Errorf("error %q, want %q", r.Error, want)
		}
		if r.Latency != health.DefaultTimeout {
			t.Errorf("latency %v", r.Latency)
		}
	})
}

func TestOptionsThatContradict(t *testing.T) {
	for _, tc := range []struct {
		opts []health.CheckOption
		want string // "" for no error
		crit bool
	}{
		{nil, "", true},
		{[]health.CheckOption{health.Critical()}, "", true},
		{[]health.CheckOption{health.NotCritical()}, "", false},
		{[]health.CheckOption{health.Dependency()}, "", false},
		{[]health.CheckOption{health.Dependency(), health.NotCritical()}, "", false},
		{[]health.CheckOption{health.Dependency(), health.Critical()}, "", true},
		{[]health.CheckOption{health.Critical(), health.Dependency()}, "", true},
		{[]health.CheckOption{health.For("a.A")}, "", false},
		{[]health.CheckOption{health.For("a.A"), health.Dependency()}, "", false},
		{[]health.CheckOption{health.StartupOnly()}, "", true},
		{[]health.CheckOption{health.StartupOnly(), health.Dependency(), health.Critical()}, "", true},
		{[]health.CheckOption{health.Critical(), health.NotCritical()}, "exclude one another", false},
		{[]health.CheckOption{health.For()}, "full names", false},
		{[]health.CheckOption{health.For("")}, "full names", false},
		{[]health.CheckOption{health.For("a.A"), health.Critical()}, "leave out Critical", false},
		{[]health.CheckOption{health.NotCritical(), health.For("a.A")}, "leave out Critical", false},
		{[]health.CheckOption{health.StartupOnly(), health.NotCritical()}, "leave out NotCritical and For", false},
		{[]health.CheckOption{health.StartupOnly(), health.For("a.A")}, "leave out NotCritical and For", false},
		{[]health.CheckOption{health.StartupOnly(), health.Dependency()}, "add Critical if that", false},
	} {
		h := health.New()
		err := h.Add("it", ok, tc.opts...)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `"it"`) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("want critical %v: %v", tc.crit, err)
			continue
		}
		if r := result(t, h, "it"); r.Critical != tc.crit {
			t.Errorf("%+v, want critical %v", r, tc.crit)
		}
	}
}

// TestFor: a check that is bound to a gRPC service takes that one out, and Watch
// tells it; the process and its other services go on.
func TestFor(t *testing.T) {
	const orders, stock = "orders.v1.Orders", "stock.v1.Stock"
	h := health.New()
	var fails atomic.Bool
	add(t, h, "search", func(context.Context) error {
		if fails.Load() {
			return errors.New("the index is being built")
		}
		return nil
	}, health.For(orders), health.FailureThreshold(1))
	if err := h.Validate(); err == nil || !strings.Contains(err.Error(), `"search" is for the gRPC service "orders.v1.Orders"`) {
		t.Errorf("before the services are there: %v", err)
	}
	h.Serve(orders)
	h.Serve(stock)
	if err := h.Validate(); err != nil {
		t.Error(err)
	}
	client := serveHealth(t, h)
	names := []string{"", orders, stock}
	watch := watchHealth(t, client, names)
	want := func(step string, statuses ...healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for i, name := range names {
			if got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name}); err != nil || got.GetStatus() != statuses[i] {
				t.Errorf("%s: check of %q says %v, %v, want %v", step, name, got, err, statuses[i])
			}
		}
	}
	told := func(step string, service int, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if got, err := watch[service].Recv(); err != nil || got.GetStatus() != want {
			t.Errorf("%s: watch of %q says %v, %v, want %v", step, names[service], got, err, want)
		}
	}
	const up, down = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for i := range names {
		told("starting", i, down)
	}
	h.SetPhase(health.Serving)
	want("pending", up, down, up)
	told("pending", 0, up)
	told("pending", 2, up)
	if err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("well", up, up, up)
	told("well", 1, up)
	fails.Store(true)
	if err := h.Check(t.Context()); err != nil {
		t.Errorf("it stands against the start: %v", err)
	}
	want("failing", up, down, up)
	told("failing", 1, down)
	if r := result(t, h, "search"); !h.Ready() || r.Critical || !slices.Equal(r.Services, []string{orders}) || r.Status != health.StatusDown {
		t.Errorf("ready %v, %+v", h.Ready(), r)
	}
	fails.Store(false)
	if err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	told("well again", 1, up)
	h.SetPhase(health.Draining)
	want("draining", down, down, down)
	for i := range names {
		told("draining", i, down)
	}
}
