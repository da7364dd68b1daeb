package framework_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/registry/etcd/embedded"
	"plinth.internal/registry/memory"
)

func jobOf(t *testing.T, app *frameworktest.App, name string) framework.JobDocument {
	t.Helper()
	jobs := lifecycle(t, app).Jobs
	at := slices.IndexFunc(jobs, func(j framework.JobDocument) bool { return j.Name == name })
	if at < 0 {
		t.Fatalf("no job %s in %+v", name, jobs)
	}
	return jobs[at]
}

// TestJobRunsOnOneInstance: at its times, on one of three, and on another one once
// that stops.
func TestJobRunsOnOneInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		type run struct {
			instance string
			at       time.Time
			fence    int64
		}
		var mu sync.Mutex
		var runs []run
		var running atomic.Int64
		apps := map[string]*frameworktest.App{}
		for range 3 {
			app := env.Start("echo", func(_ context.Context, s *framework.Service) error {
				s.RegisterService(&echoDesc, plainEcho)
				s.Job("reports", time.Minute, func(ctx context.Context) error {
					if running.Add(1) != 1 {
						t.Error("it runs twice at the same time")
					}
					defer running.Add(-1)
					mu.Lock()
					defer mu.Unlock()
					runs = append(runs, run{s.Instance().ID, time.Now(), framework.Fence(ctx)})
					return nil
				})
				return nil
			})
			apps[app.Instance().ID] = app
		}
		advance(10*time.Minute + time.Second)
		mu.Lock()
		first := slices.Clone(runs)
		mu.Unlock()
		if len(first) != 10 {
			t.Fatalf("%d runs in 10 minutes", len(first))
		}
		for i, r := range first {
			if r.instance != first[0].instance || r.fence != first[0].fence || i > 0 && r.at.Sub(first[i-1].at) != time.Minute {
				t.Errorf("run %d: %+v after %+v", i, r, first[0])
			}
		}
		leader := apps[first[0].instance]
		doc := jobOf(t, leader, "reports")
		if !doc.Leading || doc.EveryS != 60 || doc.Runs["ok"] != 10 || doc.Last == nil || doc.Last.Outcome != "ok" || doc.Next == "" || doc.Fence != first[0].fence {
			t.Errorf("shown as %+v", doc)
		}
		_, metrics := ask(t, leader, http.MethodGet, "/metrics", "")
		for _, want := range []string{`plinth_job_leader{job="reports"} 1`, `plinth_job_runs_total{job="reports",outcome="ok"} 10`, `plinth_job_last_success_timestamp_seconds{job="reports"}`} {
			if !strings.Contains(metrics, want) {
				t.Errorf("/metrics has no %s", want)
			}
		}
		if err := leader.Stop(); err != nil {
			t.Error(err)
		}
		advance(10 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		second := runs[len(first):]
		if len(second) != 10 {
			t.Fatalf("%d runs in the next 10 minutes", len(second))
		}
		for i, r := range second {
			// The times stay where they were.
			if r.instance == first[0].instance || r.fence <= first[0].fence || r.at.Sub(first[9].at) != time.Duration(i+1)*time.Minute {
				t.Errorf("run %d of the next leader: %+v", i, r)
			}
		}
	})
}

// TestJobOutcomes: errors and panics are told and do not end a job; runs that take
// too long leave others out.
func TestJobOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		n := 0
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Job("reports", time.Minute, func(ctx context.Context) error {
				switch n++; n {
				case 1:
					return errors.New("no paper")
				case 2:
					panic("no ink")
				case 3:
					<-time.After(150 * time.Second) // the next two fall into it
				case 5:
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}, framework.AtOnce())
			return nil
		}, r.option())
		advance(100 * time.Millisecond)
		if doc := jobOf(t, app, "reports"); doc.Runs["failed"] != 1 || doc.Last.Error != "no paper" {
			t.Errorf("it was to run at once: %+v", doc)
		}
		advance(time.Minute)
		if doc := jobOf(t, app, "reports"); doc.Runs["panicked"] != 1 || doc.Last.Error != "panic: no ink" {
			t.Errorf("after a panic: %+v", doc)
		}
		advance(2 * time.Minute)
		if doc := jobOf(t, app, "reports"); !doc.Last.Running || doc.Last.TookMS == 0 {
			t.Errorf("while it runs: %+v", doc)
		}
		advance(3 * time.Minute)
		if doc := jobOf(t, app, "reports"); doc.Runs["skipped"] != 2 || doc.Runs["ok"] != 2 || !doc.Last.Running {
			t.Errorf("after a long run: %+v", doc)
		}
		if err := app.Stop(); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		outcomes := map[string]int{}
		for _, e := range r.events {
			if e, ok := e.(framework.JobRan); ok {
				outcomes[e.Outcome]++
				if (e.Outcome == "panicked") != strings.Contains(string(e.Stack), "TestJobOutcomes") {
					t.Errorf("%s with stack\n%s", e.Outcome, e.Stack)
				}
			}
		}
		if want := map[string]int{"failed": 1, "panicked": 1, "ok": 2, "cut_short": 1}; fmt.Sprint(outcomes) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", outcomes, want)
		}
	})
}

// TestLead: fn has the leadership while its context lives, and gets it again.
func TestLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		env := frameworktest.New(t)
		var fences []int64
		var causes []string
		app := env.Start("echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Lead("sync", func(ctx context.Context) error {
				fences = append(fences, framework.Fence(ctx))
				if len(fences) == 2 {
					return errors.New("no peer")
				}
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx).Error())
				return nil
			})
			return nil
		}, r.option())
		synctest.Wait()
		if !jobOf(t, app, "sync").Leading || env.Elections().Leader("echo/sync") != app.Instance().ID {
			t.Error("it does not lead")
		}
		if !env.Elections().Depose("echo/sync") {
			t.Fatal("nobody leads")
		}
		advance(5 * time.Second) // it leads again, fails, and leads once more
		synctest.Wait()
		if len(fences) != 3 || fences[0] >= fences[1] || fences[1] >= fences[2] {
			t.Errorf("fences %v, want three that grow", fences)
		}
		if err := app.Stop(); err != nil {
			t.Error(err)
		}
		if len(causes) != 2 || !strings.Contains(causes[0], "the leadership is lost: deposed") || strings.Contains(causes[1], "lost") {
			t.Errorf("its context ended for %q", causes)
		}
		if leader := env.Elections().Leader("echo/sync"); leader != "" {
			t.Errorf("%s leads after the stop", leader)
		}
		if n := count[framework.LeadershipChanged](&r); n != 6 {
			t.Errorf("%d changes told, want 6", n)
		}
		if framework.Fence(t.Context()) != 0 {
			t.Error("a fence outside of jobs")
		}
	})
}

// TestHandOverBeforeTheDrain: another instance goes on while this one still drains,
// and not before fn has returned.
func TestHandOverBeforeTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := frameworktest.New(t)
		var returned, began atomic.Pointer[time.Time]
		now := func(p *atomic.Pointer[time.Time]) { at := time.Now(); p.Store(&at) }
		start := func(fn func(context.Context) error) *frameworktest.App {
			return env.Start("echo", func(_ context.Context, s *framework.Service) error {
				s.RegisterService(&echoDesc, plainEcho)
				s.Lead("sync", fn)
				return nil
			}, framework.WithSetting("server.drain.delay", "8s"))
		}
		first := start(func(ctx context.Context) error {
			<-ctx.Done()
			<-time.After(3 * time.Second) // it finishes what it has begun
			now(&returned)
			return nil
		})
		start(func(ctx context.Context) error { now(&began); <-ctx.Done(); return nil })
		begun := time.Now()
		if err := first.Stop(); err != nil {
			t.Error(err)
		}
		if returned.Load() == nil || began.Load() == nil {
			t.Fatalf("fn returned at %v, the next one began at %v", returned.Load(), began.Load())
		}
		if gap := began.Load().Sub(*returned.Load()); gap < 0 || gap > time.Second {
			t.Errorf("the next one began %v after fn returned", gap)
		}
		if took := time.Since(begun); took < 4*time.Second || began.Load().Sub(begun) > took-time.Second/2 {
			t.Errorf("the next one began %v into a stop of %v", began.Load().Sub(begun), took)
		}
	})
}

// TestJobNeedsElections: a registry without elections is an error, no registry is
// one instance that leads.
func TestJobNeedsElections(t *testing.T) {
	for _, tc := range []struct{ kind, want string }{
		{"static", ""},
		{"dns", "job reports: the registry dns cannot hold elections; set registry.kind to etcd, or give an elector with framework.WithElector"},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			ran := make(chan struct{})
			opts := []framework.Option{framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output())}
			for key, value := range map[string]string{
				"registry.kind": tc.kind, "server.grpc.addr": "", "server.admin.addr": "", "server.drain.dump_dir": "off", "registry.snapshot_dir": "off",
			} {
				opts = append(opts, framework.WithSetting(key, value))
			}
			if tc.kind == "dns" {
				opts = append(opts, framework.WithSetting("registry.dns.name", "{service}.test.:9000"))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			app, err := framework.New("echo", func(_ context.Context, s *framework.Service) error {
				s.Job("reports", time.Hour, func(context.Context) error { close(ran); cancel(); return nil }, framework.AtOnce())
				return nil
			}, opts...)
			if err != nil {
				t.Fatal(err)
			}
			err = app.Run(ctx)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("err = %v, want it to say %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Error(err)
			}
			select {
			case <-ran:
			default:
				t.Error("it did not run")
			}
		})
	}
}

func TestJobErrors(t *testing.T) {
	job := func(context.Context) error { return nil }
	for name, tc := range map[string]struct {
		setup func(s *framework.Service)
		want  string
	}{
		"bad name":    {func(s *framework.Service) { s.Job("Reports/1", time.Minute, job) }, `register job: "Reports/1" cannot be the name of a job`},
		"no interval": {func(s *framework.Service) { s.Job("reports", 0, job) }, "register job reports: the interval 0s is not above zero"},
		"nil":         {func(s *framework.Service) { s.Lead("reports", nil) }, "register job reports: the function is nil"},
		"twice": {func(s *framework.Service) {
			s.Job("reports", time.Minute, job)
			s.Lead("reports", job)
		}, "register job reports: the name is taken"},
		"no elections": {func(s *framework.Service) { s.Job("reports", time.Minute, job) }, "job reports: the memory registry was given without an elector; give one as well with framework.WithElector"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := memory.Open(memory.NewStore())
			defer reg.Close()
			app, err := framework.New("echo", func(_ context.Context, s *framework.Service) error {
				tc.setup(s)
				return nil
			}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()), framework.WithRegistry(reg),
				framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", ""))
			if err != nil {
				t.Fatal(err)
			}
			if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want it to say %q", err, tc.want)
			}
		})
	}
}

// etcdApp is an app of the service echo whose job leads by etcd.
type etcdApp struct {
	app   *framework.App
	stop  context.CancelFunc
	ended chan error
	led   chan time.Time // each time fn begins
	done  chan time.Time // each time its context ends
}

func startEtcdApp(t *testing.T, server *embedded.Server) *etcdApp {
	t.Helper()
	a := &etcdApp{ended: make(chan error, 1), led: make(chan time.Time, 10), done: make(chan time.Time, 10)}
	opts := []framework.Option{framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output())}
	for key, value := range map[string]string{
		"registry.endpoints": server.Endpoint(), "registry.snapshot_dir": "off", "registry.ttl": "2s",
		"server.grpc.addr": "127.0.0.1:0", "server.admin.addr": "", "server.drain.delay": "2s", "server.drain.dump_dir": "off",
	} {
		opts = append(opts, framework.WithSetting(key, value))
	}
	var err error
	a.app, err = framework.New("echo", func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, plainEcho)
		s.Lead("sync", func(ctx context.Context) error {
			a.led <- time.Now()
			<-ctx.Done()
			a.done <- time.Now()
			return nil
		})
		return nil
	}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	ended := make(chan struct{})
	go func() {
		a.ended <- a.app.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	<-a.app.Ready()
	return a
}

func soon(t *testing.T, within time.Duration, what string, c <-chan time.Time) time.Time {
	t.Helper()
	select {
	case at := <-c:
		return at
	case <-time.After(within):
		t.Fatalf("%s: not within %v", what, within)
		return time.Time{}
	}
}

// TestHandOverByEtcd measures how long nobody leads when the leader stops.
func TestHandOverByEtcd(t *testing.T) {
	t.Parallel()
	server, _ := startEtcd(t)
	first := startEtcdApp(t, server)
	soon(t, 10*time.Second, "the first one leads", first.led)
	second := startEtcdApp(t, server)
	eventually(t, 10*time.Second, "the second one stands", func() error {
		if jobs := second.app.Lifecycle().Jobs; len(jobs) != 1 || jobs[0].Leading || jobs[0].Error != "" {
			return fmt.Errorf("%+v", jobs)
		}
		return nil
	})
	begun := time.Now()
	first.stop()
	led := soon(t, 10*time.Second, "the second one leads", second.led)
	done := soon(t, time.Second, "the first one has ended", first.done)
	t.Logf("the second one led %v after the stop began, %v after the work of the first one ended", led.Sub(begun), led.Sub(done))
	if led.Before(done) || led.Sub(begun) > time.Second {
		t.Errorf("the second one led %v after the stop, the first one ended %v after it", led.Sub(begun), done.Sub(begun))
	}
	if len(first.ended) != 0 {
		t.Error("the first one has stopped already: it was to drain meanwhile")
	}
	if err := <-first.ended; err != nil {
		t.Error(err)
	}
}

// TestLeadWithoutEtcd: the work ends before the lease can, and is taken up again
// when etcd is back.
func TestLeadWithoutEtcd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := embedded.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	app := startEtcdApp(t, server)
	soon(t, 10*time.Second, "it leads", app.led)
	begun := time.Now()
	server.Close()
	ended := soon(t, 2*time.Second, "its work ends", app.done)
	t.Logf("the work ended %v after etcd was gone, with a TTL of 2s", ended.Sub(begun))
	eventually(t, 5*time.Second, "it says why it does not lead", func() error {
		if jobs := app.app.Lifecycle().Jobs; jobs[0].Leading || !strings.Contains(jobs[0].Error, "etcd") {
			return fmt.Errorf("%+v", jobs)
		}
		return nil
	})
	server, err = embedded.Start(dir, embedded.WithClientAddr(server.Endpoint()))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	begun = time.Now()
	led := soon(t, 20*time.Second, "it leads again", app.led)
	t.Logf("it leads %v after etcd was back", led.Sub(begun))
	app.stop()
	if err := <-app.ended; err != nil {
		t.Error(err)
	}
}
