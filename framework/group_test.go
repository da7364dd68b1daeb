package framework_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

func TestRestartPolicies(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, tc := range []struct {
		name   string
		opts   []framework.GoOption
		end    error // of every run
		runs   int   // within a minute, -1 for many
		state  string
		told   int // failures, -1 for many
		policy framework.RestartPolicy
	}{
		{"default, error", nil, broken, -1, "restarting", -1, framework.RestartOnFailure},
		{"default, nil", nil, nil, 1, "done", 0, framework.RestartOnFailure},
		{"never, error", []framework.GoOption{framework.Restart(framework.RestartNever)}, broken, 1, "failed", 1, framework.RestartNever},
		{"never, nil", []framework.GoOption{framework.Restart(framework.RestartNever)}, nil, 1, "done", 0, framework.RestartNever},
		{"always, nil", []framework.GoOption{framework.Restart(framework.RestartAlways)}, nil, -1, "restarting", 0, framework.RestartAlways},
		{"stop, nil", []framework.GoOption{framework.Restart(framework.StopOnFailure)}, nil, 1, "done", 0, framework.StopOnFailure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				runs := 0
				app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
					s.RegisterService(&echoDesc, plainEcho)
					s.Go("worker", func(context.Context) error { runs++; return tc.end }, tc.opts...)
					return nil
				}, r.option())
				advance(time.Minute)
				synctest.Wait()
				many := func(n, want int) bool { return want < 0 && n > 10 && n < 100 || n == want }
				if told := count[framework.GoroutineFailed](&r); !many(runs, tc.runs) || !many(told, tc.told) {
					t.Errorf("%d runs, %d failures told; want %d and %d", runs, told, tc.runs, tc.told)
				}
				g := lifecycle(t, app).Goroutines
				for i, other := range g {
					if other.Name == "worker" {
						g = g[i:]
					}
				}
				if len(g) == 0 || g[0].State != tc.state || g[0].Restart != tc.policy.String() {
					t.Errorf("shown as %+v, want %s", g, tc.state)
				}
				if tc.told != 0 {
					_, metrics := ask(t, app, http.MethodGet, "/metrics", "")
					if want := `plinth_goroutine_failures_total{name="worker"}`; !strings.Contains(metrics, want) {
						t.Errorf("/metrics has no %s", want)
					}
				}
			})
		})
	}
}

// TestMaxPause: the pauses stay below the ceiling.
func TestMaxPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ceiling = 20 * time.Millisecond
		var last time.Time
		var longest time.Duration
		runs := 0
		frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Go("worker", func(context.Context) error {
				if runs++; runs > 1 {
					longest = max(longest, time.Since(last))
				}
				last = time.Now()
				return errors.New("again")
			}, framework.MaxPause(ceiling))
			return nil
		})
		advance(10 * time.Second)
		synctest.Wait()
		if longest > ceiling || longest < ceiling/2 || runs < 500 {
			t.Errorf("the longest of %d pauses was %v, want at most %v and hardly less", runs, longest, ceiling)
		}
	})
}

func TestStopOnFailure(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("broken pipe") },
		"panic": func() error { panic("broken pipe") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				release := make(chan struct{})
				app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
					s.RegisterService(&echoDesc, plainEcho)
					s.Go("worker", func(context.Context) error { <-release; return fail() }, framework.Restart(framework.StopOnFailure))
					return nil
				}, r.option())
				close(release)
				synctest.Wait()
				if count[framework.Stopped](&r) != 1 {
					t.Error("the app has not stopped by itself")
				}
				if err := app.Stop(); err == nil || !strings.Contains(err.Error(), "goroutine worker: ") || !strings.Contains(err.Error(), "broken pipe") {
					t.Errorf("err = %v, want the goroutine's", err)
				}
			})
		})
	}
}

// TestStopOnFailureWhileStarting: the goroutine's error is told, not what the start
// was waiting for.
func TestStopOnFailureWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, err := framework.New("echo", func(_ context.Context, s *framework.Service) error {
			s.Check("db", func(context.Context) error { return errors.New("connection refused") })
			s.Go("worker", func(context.Context) error {
				<-time.After(time.Second)
				return errors.New("broken pipe")
			}, framework.Restart(framework.StopOnFailure))
			return nil
		}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
			framework.WithSetting("server.grpc.addr", ""), framework.WithSetting("server.admin.addr", ""))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Run(t.Context()); err == nil || err.Error() != "goroutine worker: broken pipe" {
			t.Errorf("err = %v, want the goroutine's", err)
		}
	})
}

// TestGoroutinePanic: the event has the stack beside the error.
func TestGoroutinePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		cause := errors.New("cause")
		frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Go("worker", func(context.Context) error { panic(fmt.Errorf("oops: %w", cause)) }, framework.Restart(framework.RestartNever))
			return nil
		}, r.option())
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.events {
			if e, ok := e.(framework.GoroutineFailed); ok {
				if e.Err.Error() != "panic: oops: cause" || !errors.Is(e.Err, cause) || !strings.Contains(string(e.Stack), "TestGoroutinePanic") {
					t.Errorf("told %v with stack\n%s", e.Err, e.Stack)
				}
				return
			}
		}
		t.Error("nothing was told")
	})
}

// TestEndedGoroutinesAreForgotten: a service may start goroutines for as long as it
// lives.
func TestEndedGoroutinesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var service *framework.Service
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Go("lasting", func(ctx context.Context) error { <-ctx.Done(); return nil })
			service = s
			return nil
		})
		for i := range 200 {
			service.Go(fmt.Sprint("short-", i), func(context.Context) error { return nil })
			advance(time.Millisecond)
		}
		doc := lifecycle(t, app)
		if n := len(doc.Goroutines); n < 51 || n > 53 {
			t.Errorf("%d goroutines are shown, want the last 50 and those that run", n)
		}
		if last := doc.Goroutines[len(doc.Goroutines)-1].Name; last != "short-199" && last != "short-99" {
			t.Errorf("the last one is %s", last)
		}
	})
}
