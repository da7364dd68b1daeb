package health_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"plinth.internal/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func add(t *testing.T, h *health.Health, name string, fn health.Func, opts ...health.CheckOption) {
	t.Helper()
	if err := h.Add(name, fn, opts...); err != nil {
		t.Fatal(err)
	}
}

// start runs the checks until the test ends, or the returned function is called.
func start(t *testing.T, h *health.Health) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { h.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// result is the last result of one check.
func result(t *testing.T, h *health.Health, name string) health.Result {
	t.Helper()
	for _, r := range h.Report().Results {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("%s is not in the report", name)
	return health.Result{}
}

func ok(context.Context) error { return nil }

func TestPhases(t *testing.T) {
	h := health.New()
	for _, tc := range []struct {
		phase health.Phase
		ready bool
	}{{health.Starting, false}, {health.Serving, true}, {health.Draining, false}, {health.Stopped, false}} {
		if tc.phase != health.Starting { // which is where it begins
			h.SetPhase(tc.phase)
		}
		if h.Phase() != tc.phase || h.Ready() != tc.ready || h.Report().Ready != tc.ready || h.Report().Phase != tc.phase {
			t.Errorf("%s: phase %s, ready %v, report %+v", tc.phase, h.Phase(), h.Ready(), h.Report())
		}
	}
}

func TestCheckResults(t *testing.T) {
	for _, tc := range []struct {
		name string
		fn   health.Func
		want string // the error, "" for ok
		took time.Duration
	}{
		{"ok", ok, "", 0},
		{"slow", func(context.Context) error { <-time.After(time.Second); return nil }, "", time.Second},
		{"fails", func(context.Context) error { return errors.New("no route") }, "no route", 0},
		{"panics", func(context.Context) error { panic("oops") }, "panic: oops", 0},
		{"exits", func(context.Context) error { runtime.Goexit(); return nil }, "the check ended its goroutine", 0},
		{"honours its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "", health.DefaultTimeout},
		{"ignores its context", func(context.Context) error { <-time.After(time.Hour); return nil }, "no answer within 2s", health.DefaultTimeout},
	} {
		for _, critical := range []bool{true, false} {
			t.Run(tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := health.New()
					h.SetPhase(health.Serving)
					var opts []health.CheckOption
					if !critical {
						opts = append(opts, health.NotCritical())
					}
					add(t, h, "it", tc.fn, opts...)
					if r := result(t, h, "it"); r.Status != health.StatusPending || r.Error == "" || !r.CheckedAt.IsZero() || r.Critical != critical {
						t.Errorf("pending: %+v", r)
					}
					if h.Ready() == critical {
						t.Errorf("ready = %v while pending", h.Ready())
					}
					begun := time.Now()
					err := h.Check(t.Context())
					fails := tc.want != "" || tc.name == "honours its context"
					if (err != nil) != (fails && critical) || err != nil && !strings.Contains(err.Error(), `check "it": `) {
						t.Errorf("Check = %v", err)
					}
					r := result(t, h, "it")
					if (r.Status == health.StatusOK) == fails || !strings.Contains(r.Error, tc.want) || r.Latency != tc.took || !r.CheckedAt.Equal(begun.Add(tc.took)) {
						t.Errorf("result %+v after %v", r, time.Since(begun))
					}
					if (r.Error == "") == fails {
						t.Errorf("error %q", r.Error)
					}
					if h.Ready() != (!fails || !critical) {
						t.Errorf("ready = %v", h.Ready())
					}
					<-time.After(2 * time.Hour) // what ignores its context has come back
				})
			})
		}
	}
}

// TestHungCheck: a check that never comes back neither hangs a report nor is it
// started again, however long the process lives; when it does come back it is.
func TestHungCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		h.SetPhase(health.Serving)
		var runs, running atomic.Int64
		release := make(chan struct{})
		add(t, h, "hung", func(context.Context) error {
			runs.Add(1)
			running.Add(1)
			defer running.Add(-1)
			<-release
			return nil
		})
		add(t, h, "well", ok)
		start(t, h)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range 1000 {
			<-time.After(health.DefaultInterval)
			begun := time.Now()
			if r := h.Report(); r.Ready || len(r.Results) != 2 || !time.Now().Equal(begun) {
				t.Fatalf("report %+v", r)
			}
		}
		if runs.Load() != 1 || running.Load() != 1 {
			t.Errorf("the hung check was started %d times, %d at once", runs.Load(), running.Load())
		}
		if n := runtime.NumGoroutine(); n > before+2 {
			t.Errorf("%d goroutines, %d at the start", n, before)
		}
		if r := result(t, h, "hung"); r.Status != health.StatusDown || r.Error != "no answer within 2s" {
			t.Errorf("hung: %+v", r)
		}
		if r := result(t, h, "well"); r.Status != health.StatusOK || time.Since(r.CheckedAt) > 2*health.DefaultInterval {
			t.Errorf("well: %+v", r)
		}
		close(release)
		<-time.After(2 * health.DefaultInterval)
		if r := result(t, h, "hung"); r.Status != health.StatusOK || runs.Load() < 2 || !h.Ready() {
			t.Errorf("after it came back: %+v, %d runs", r, runs.Load())
		}
	})
}

func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		var pauses []time.Duration
		var last time.Time
		add(t, h, "it", func(context.Context) error {
			if !last.IsZero() {
				pauses = append(pauses, time.Since(last))
			}
			last = time.Now()
			return nil
		}, health.Interval(10*time.Second), health.Timeout(time.Second))
		add(t, h, "default", ok, health.Interval(0), health.Timeout(-1))
		stop := start(t, h)
		<-time.After(time.Hour)
		stop()
		if n := len(pauses); n < 330 || n > 390 {
			t.Errorf("%d runs in an hour", n)
		}
		if lo, hi := slices.Min(pauses), slices.Max(pauses); lo < 8*time.Second || hi > 12*time.Second || hi-lo < time.Second {
			t.Errorf("pauses from %v to %v, want 8s to 12s and not all alike", lo, hi)
		}
	})
}

func TestOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		h := health.New(health.OnChange(func(r health.Result) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Name+" "+string(r.Status))
		}))
		var fails atomic.Bool
		add(t, h, "it", func(ctx context.Context) error {
			if fails.Load() {
				return errors.New("no")
			}
			return ctx.Err()
		})
		stop := start(t, h)
		pause := func() { <-time.After(time.Minute) }
		pause()
		fails.Store(true)
		pause()
		fails.Store(false)
		pause()
		stop()
		if want := []string{"it ok", "it down", "it ok"}; !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
	})
}

// TestStopIsNoFailure: a check that ends with the process has not failed.
func TestStopIsNoFailure(t *testing.T) {
	for range 20 { // both ways that a select can go
		synctest.Test(t, func(t *testing.T) {
			changes := 0
			h := health.New(health.OnChange(func(health.Result) { changes++ }))
			h.SetPhase(health.Serving)
			block := false
			add(t, h, "it", func(ctx context.Context) error {
				if block {
					<-ctx.Done()
				}
				return ctx.Err()
			})
			if err := h.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			block = true
			stop := start(t, h)
			synctest.Wait()
			stop()
			if r := result(t, h, "it"); r.Status != health.StatusOK || changes != 1 {
				t.Errorf("after the stop: %+v, %d changes", r, changes)
			}
		})
	}
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		var mu sync.Mutex
		h := health.New(health.OnChange(func(r health.Result) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, string(r.Status))
		}))
		h.SetPhase(health.Serving)
		stop := start(t, h)
		beat, err := h.Heartbeat("loop", 10*time.Second) // after Run
		if err != nil {
			t.Fatal(err)
		}
		sleep := func(d time.Duration) { <-time.After(d) }
		sleep(9 * time.Second)
		beat()
		sleep(9 * time.Second)
		if r := result(t, h, "loop"); !h.Ready() || r.Latency != 9*time.Second || !r.Critical {
			t.Errorf("in time: ready %v, %+v", h.Ready(), r)
		}
		sleep(time.Second + time.Nanosecond)
		if r := result(t, h, "loop"); h.Ready() || r.Status != health.StatusDown || !strings.Contains(r.Error, "no beat for 10s, at most 10s is allowed") {
			t.Errorf("overdue: ready %v, %+v", h.Ready(), r)
		}
		if err := h.Check(t.Context()); err == nil || !strings.Contains(err.Error(), `heartbeat "loop": no beat`) {
			t.Errorf("Check = %v", err)
		}
		sleep(time.Second)
		if resp, err := h.GRPC().Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("nobody asked, and gRPC says %v, %v", resp, err)
		}
		beat()
		if r := result(t, h, "loop"); !h.Ready() || r.Status != health.StatusOK || r.Error != "" {
			t.Errorf("back: ready %v, %+v", h.Ready(), r)
		}
		sleep(time.Second)
		if resp, err := h.GRPC().Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("it is back, and gRPC says %v, %v", resp, err)
		}
		stop()
		if want := []string{"down", "ok"}; !slices.Equal(changes, want) {
			t.Errorf("changes %q, want %q", changes, want)
		}
	})
}

func TestNames(t *testing.T) {
	h := health.New()
	add(t, h, "db", ok)
	if _, err := h.Heartbeat("loop", time.Second); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"twice":         {h.Add("db", ok), `add health check "db": the name is taken`},
		"of a beat":     {h.Add("loop", ok), `add health check "loop": the name is taken`},
		"beat of check": {second(h.Heartbeat("db", time.Second)), `add heartbeat "db": the name is taken`},
		"beat twice":    {second(h.Heartbeat("loop", time.Second)), `add heartbeat "loop": the name is taken`},
		"empty":         {h.Add("", ok), "it needs a name and a function"},
		"nil":           {h.Add("x", nil), "it needs a name and a function"},
		"empty beat":    {second(h.Heartbeat("", time.Second)), "it needs a name and a longest pause above zero"},
		"zero beat":     {second(h.Heartbeat("x", 0)), "it needs a name and a longest pause above zero"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, tc.err, tc.want)
		}
	}
	if got := h.Report().Results; len(got) != 2 || got[0].Name != "db" || got[1].Name != "loop" {
		t.Errorf("report %+v", got)
	}
}

func second(_ func(), err error) error { return err }

func TestAddAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := health.New()
		start(t, h)
		synctest.Wait()
		if err := h.Add("late", ok); err == nil || !strings.Contains(err.Error(), "add it during setup") {
			t.Errorf("err = %v", err)
		}
	})
}

// serveHealth serves h over a real gRPC connection.
func serveHealth(t *testing.T, h *health.Health) healthpb.HealthClient {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, h.GRPC())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(lis) })
	cc, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close(); s.Stop(); wg.Wait() })
	return healthpb.NewHealthClient(cc)
}

type healthWatch = grpc.ServerStreamingClient[healthpb.HealthCheckResponse]

func watchHealth(t *testing.T, client healthpb.HealthClient, names []string) (watches []healthWatch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	for _, name := range names {
		w, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		watches = append(watches, w)
	}
	return watches
}

// TestGRPC follows readiness over a real gRPC connection.
func TestGRPC(t *testing.T) {
	h := health.New()
	var fails atomic.Bool
	add(t, h, "db", func(context.Context) error {
		if fails.Load() {
			return errors.New("no")
		}
		return nil
	}, health.FailureThreshold(1))
	h.Serve("orders.v1.Orders")
	ctx := t.Context()
	client := serveHealth(t, h)
	names := []string{"", "orders.v1.Orders"}
	watches := watchHealth(t, client, names)
	want := func(step string, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for i, name := range names {
			if got, err := watches[i].Recv(); err != nil || got.GetStatus() != want {
				t.Errorf("%s: watch of %q says %v, %v, want %v", step, name, got, err, want)
			}
			if got, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: name}); err != nil || got.GetStatus() != want {
				t.Errorf("%s: check of %q says %v, %v, want %v", step, name, got, err, want)
			}
		}
	}
	const up, down = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	want("starting", down)
	if err := h.Check(ctx); err != nil {
		t.Fatal(err)
	}
	h.SetPhase(health.Serving)
	want("serving", up)
	fails.Store(true)
	if h.Check(ctx) == nil {
		t.Fatal("the check passes")
	}
	want("failing", down)
	fails.Store(false)
	if err := h.Check(ctx); err != nil {
		t.Fatal(err)
	}
	want("well again", up)
	h.Serve("late.v1.Late") // a service that comes while the process serves
	if got, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "late.v1.Late"}); err != nil || got.GetStatus() != up {
		t.Errorf("late: %v, %v", got, err)
	}
	h.SetPhase(health.Draining)
	want("draining", down)
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
}

// TestCheckTwice: a second round right after the first one runs every check.
func TestCheckTwice(t *testing.T) {
	h := health.New()
	var runs atomic.Int64
	add(t, h, "it", func(context.Context) error { runs.Add(1); return nil })
	for i := range 1000 {
		if err := h.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if runs.Load() != int64(i+1) {
			t.Fatalf("%d runs after %d rounds", runs.Load(), i+1)
		}
	}
}

// TestConcurrent uses everything at once, for the race detector.
func TestConcurrent(t *testing.T) {
	h := health.New(health.OnChange(func(health.Result) {}))
	var n atomic.Int64
	for _, name := range []string{"a", "b", "c"} {
		add(t, h, name, func(context.Context) error {
			if n.Add(1)%2 == 0 {
				return errors.New("no")
			}
			return nil
		}, health.Interval(time.Millisecond))
	}
	beat, err := h.Heartbeat("loop", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, h)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 200 {
				beat()
				h.SetPhase([]health.Phase{health.Serving, health.Draining}[i%2])
				_ = h.Report()
				_ = h.Ready()
				_ = h.Check(t.Context())
				h.Serve("s")
			}
		})
	}
	wg.Wait()
	stop()
}
