package framework_test

import (
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
	"plinth.internal/registry"
	"plinth.internal/registry/static"
)

// recorder collects the events of an app.
type recorder struct {
	mu     sync.Mutex
	events []framework.Event
}

func (r *recorder) option() framework.Option {
	return framework.WithEvents(func(e framework.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	})
}

// phases are the names and durations of the phases of the stop, in order.
func (r *recorder) phases() (names []string, took map[string]time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	took = map[string]time.Duration{}
	for _, e := range r.events {
		if p, ok := e.(framework.PhaseEnded); ok && p.Stage == framework.StageStop {
			names = append(names, p.Phase)
			took[p.Phase] = p.Took
		}
	}
	return names, took
}

func count[E framework.Event](r *recorder) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

func TestStopOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		var order []string
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Go("worker", func(ctx context.Context) error {
				<-ctx.Done()
				order = append(order, "worker")
				return nil
			})
			for _, name := range []string{"first", "second"} {
				s.OnStop(name, func(context.Context) error {
					order = append(order, name)
					return nil
				})
			}
			return nil
		}, r.option(), framework.WithSetting("server.drain.delay", "2s"))
		if err := app.Stop(); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"mark draining", "accept until quiet", "withdraw", "finish calls", "end goroutines",
			"on stop: second", "on stop: first", "close clients", "flush telemetry",
		}
		names, took := r.phases()
		if !slices.Equal(names, want) {
			t.Errorf("phases %q, want %q", names, want)
		}
		if took["accept until quiet"] != time.Second {
			t.Errorf("an idle instance waited %v for quiet, want half of the delay", took["accept until quiet"])
		}
		if !slices.Equal(order, []string{"worker", "second", "first"}) {
			t.Errorf("order %q", order)
		}
	})
}

// TestDrainWhileCallsCome shows that the delay is used up while callers do not
// look at the draining mark.
// TestDrainNotAnnounced: the callers of an instance that is not announced hear of
// the stop no sooner than others. It goes on accepting calls, however long ago the
// last one came.
func TestDrainNotAnnounced(t *testing.T) {
	for _, tc := range []struct {
		name  string
		opts  []framework.Option
		calls bool
		want  time.Duration
	}{
		{"idle before", nil, false, time.Second},
		{"a call after the mark", nil, true, 1150 * time.Millisecond},
		{"without a listener for calls", []framework.Option{
			framework.WithListener("grpc", nil), framework.WithListener("http", nil), framework.WithSetting("server.grpc.addr", ""),
		}, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				env := frameworktest.New(t)
				setup := setupEcho(plainEcho)
				if tc.want == 0 {
					setup = func(context.Context, *framework.Service) error { return nil }
				}
				reg, err := static.Open(nil)
				if err != nil {
					t.Fatal(err)
				}
				defer reg.Close()
				app := env.Start("echo", setup, append([]framework.Option{
					r.option(), framework.WithRegistry(reg), framework.WithSetting("server.drain.delay", "2s"),
				}, tc.opts...)...)
				if tc.calls {
					conn := env.Direct(app)
					if _, err := say(t.Context(), conn, "x"); err != nil {
						t.Fatal(err)
					}
					defer time.AfterFunc(time.Minute+150*time.Millisecond, func() {
						if _, err := say(context.WithoutCancel(t.Context()), conn, "x"); err != nil {
							t.Errorf("a call after the mark: %v", err)
						}
					}).Stop()
				}
				advance(time.Minute)
				if err := app.Stop(); err != nil {
					t.Fatal(err)
				}
				names, took := r.phases()
				if took["accept until quiet"] != tc.want || slices.Contains(names, "accept until quiet") != (tc.want > 0) {
					t.Errorf("waited %v for quiet, want %v; phases %q", took["accept until quiet"], tc.want, names)
				}
			})
		})
	}
}

func TestDrainWhileCallsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		env := frameworktest.New(t)
		app := env.Start("echo", setupEcho(plainEcho), r.option(), framework.WithSetting("server.drain.delay", "2s"))
		conn := app.Conn()
		stopped := make(chan error, 1)
		go func() { stopped <- app.Stop() }()
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		direct := env.Direct(app)
		for calling := true; calling; {
			select {
			case err := <-stopped:
				if err != nil {
					t.Error(err)
				}
				calling = false
			case <-tick.C:
				// The client stack has seen that this instance is going; a peer
				// that holds its address goes on.
				_, _ = say(t.Context(), direct, "x")
			}
		}
		if _, err := say(t.Context(), conn, "x"); status.Code(err) != codes.Unavailable {
			t.Errorf("after the stop: %v, want UNAVAILABLE", err)
		}
		if _, took := r.phases(); took["accept until quiet"] != 2*time.Second {
			t.Errorf("waited %v, want the whole delay", took["accept until quiet"])
		}
	})
}

func TestStuckSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		ran := false
		env := frameworktest.New(t)
		app := env.Start("echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, echo{say: func(context.Context, string) (string, error) {
				<-release // it does not look at its context
				return "", nil
			}})
			s.Go("deaf", func(context.Context) error { <-release; return nil })
			s.OnStop("last", func(context.Context) error { ran = true; return nil })
			s.OnStop("stuck", func(context.Context) error { <-release; return nil })
			s.OnStop("panics", func(context.Context) error { panic("oops") })
			return nil
		}, framework.WithSetting("server.drain.timeout", "3s"))
		called := make(chan error, 1)
		go func() {
			_, err := say(t.Context(), env.Direct(app), "x")
			called <- err
		}()
		synctest.Wait()
		begun := time.Now()
		err := app.Stop()
		if err == nil {
			t.Fatal("a stop with stuck steps went well")
		}
		for _, want := range []string{"1 calls were cut off", "server.drain.timeout, 3s", "deaf", "on stop: stuck: it did not end", "on stop: panics: panic: oops"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error does not say %q:\n%v", want, err)
			}
		}
		if !ran {
			t.Error("a stuck step kept a later one from running")
		}
		if <-called == nil {
			t.Error("the call that was cut off went well")
		}
		if took := time.Since(begun); took > 40*time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

func TestGoroutineIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		runs := 0
		done := make(chan struct{})
		frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Go("worker", func(context.Context) error {
				switch runs++; runs {
				case 1:
					return errors.New("broken pipe")
				case 2:
					panic("oops")
				}
				close(done)
				return nil
			})
			return nil
		}, r.option())
		<-done
		synctest.Wait()
		if runs != 3 || count[framework.GoroutineFailed](&r) != 2 {
			t.Errorf("%d runs, %d failures told; want 3 and 2", runs, count[framework.GoroutineFailed](&r))
		}
	})
}

func TestWaitsForCriticalChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		begun := time.Now()
		up := begun.Add(3 * time.Second)
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Check("db", func(context.Context) error {
				if time.Now().Before(up) {
					return errors.New("connection refused")
				}
				return nil
			})
			s.Check("cache", func(context.Context) error { return errors.New("cold") }, health.NotCritical())
			return nil
		}, r.option())
		if took := time.Since(begun); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("ready after %v, want between 3 and 4 s", took)
		}
		if n := count[framework.Waiting](&r); n != 1 {
			t.Errorf("told %d times that it waits, want once for one reason", n)
		}
		doc := app.Health()
		if doc.Status != framework.HealthDegraded || len(doc.Checks) != 2 || doc.Checks[0].Error != "cold" {
			t.Errorf("health = %+v", doc)
		}
	})
}

// TestRegistryDown shows that a registry that fails later makes an instance
// degraded, not down.
func TestRegistryDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		app := env.Start("echo", setupEcho(plainEcho))
		if _, err := say(t.Context(), app.Conn(), "x"); err != nil {
			t.Fatal(err)
		}
		env.Registry().SetDown(errors.New("no quorum"))
		env.Registry().Expire(app.Instance().ID)
		advance(10 * time.Second)
		doc := app.Health()
		if doc.Status != framework.HealthDegraded || !strings.Contains(doc.Registry.Error, "no quorum") {
			t.Errorf("health = %+v", doc)
		}
		if got, err := say(t.Context(), app.Conn(), "x"); err != nil || got != "x" {
			t.Errorf("call while the registry is down = %q, %v", got, err)
		}
		env.Registry().SetDown(nil)
		advance(10 * time.Second)
		if doc := app.Health(); doc.Status != framework.HealthOK {
			t.Errorf("health after the registry has come back = %+v", doc)
		}
	})
}

// TestOverrideInHealth shows an operator's wish where people look for it.
func TestOverrideInHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		app := env.Start("echo", setupEcho(plainEcho))
		if doc := app.Health(); doc.Registry.Override != nil {
			t.Errorf("an override that nobody wants: %+v", doc.Registry.Override)
		}
		env.Registry().PutOverride("echo", app.Instance().ID, []byte(`{"state":"draining","weight":7}`))
		advance(time.Second)
		doc := app.Health()
		if o := doc.Registry.Override; o == nil || o.State != "draining" || o.Weight != 7 {
			t.Errorf("health = %+v, want the override in it", doc.Registry)
		}
		if doc.Status != framework.HealthOK {
			t.Errorf("an instance that was taken out of rotation is %s", doc.Status)
		}
		if list := env.Registry().Instances("echo"); len(list) != 1 || list[0].State != registry.Draining || list[0].Weight != 7 {
			t.Errorf("it is listed as %+v", list)
		}
		// Those that call it all the same are answered.
		if got, err := say(t.Context(), app.Conn(), "x"); err != nil || got != "x" {
			t.Errorf("call = %q, %v", got, err)
		}
		env.Registry().PutOverride("echo", app.Instance().ID, nil)
		advance(time.Second)
		if doc := app.Health(); doc.Registry.Override != nil {
			t.Errorf("override = %+v after it was lifted", doc.Registry.Override)
		}
	})
}

// TestViewMetrics shows what /metrics says of the services that are called.
func TestViewMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		env.Start("echo", setupEcho(plainEcho))
		env.Start("echo", setupEcho(plainEcho))
		var conn *grpc.ClientConn
		caller := env.Start("caller", func(_ context.Context, s *framework.Service) (err error) {
			conn, err = s.Client("echo")
			return err
		})
		if _, err := say(t.Context(), conn, "x"); err != nil {
			t.Fatal(err)
		}
		metric := func(name string) float64 {
			t.Helper()
			resp, err := caller.Admin().Get("http://admin/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
			if m == nil {
				t.Fatalf("/metrics has no %s", name)
			}
			v, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		instances := func(state string) float64 {
			t.Helper()
			return metric(`plinth_registry_instances{service="echo",state="` + state + `"}`)
		}
		const age = `plinth_registry_view_age_seconds{service="echo"}`
		if up, gone, a := instances("up"), instances("quarantined"), metric(age); up != 2 || gone != 0 || a != 0 {
			t.Errorf("%v up, %v quarantined, age %v; want 2, 0 and 0", up, gone, a)
		}
		env.Registry().SetDown(errors.New("no quorum"))
		advance(90 * time.Second)
		if up, a := instances("up"), metric(age); up != 2 || a < 90 || a > 100 {
			t.Errorf("%v up, age %v 90 s into an outage; want 2 and 90", up, a)
		}
		env.Registry().SetDown(nil)
		advance(30 * time.Second)
		// Somebody clears the registry while the instances cannot put themselves
		// back at once: they are called on.
		for _, inst := range env.Registry().Instances("echo") {
			env.Registry().Expire(inst.ID)
		}
		if _, err := say(t.Context(), conn, "x"); err != nil {
			t.Error(err)
		}
		advance(30 * time.Second)
		if up, a := instances("up"), metric(age); up != 2 || a != 0 {
			t.Errorf("%v up, age %v when all is well again; want 2 and 0", up, a)
		}
	})
}
