package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
)

// onLoopback boots an app with a real admin listener and returns its address.
// It does not wait until the app is ready.
func onLoopback(t *testing.T, setup framework.Setup, opts ...framework.Option) (app *framework.App, admin string) {
	t.Helper()
	listening := make(chan string, 1)
	app, err := framework.New("echo", setup, append([]framework.Option{
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
		framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", "127.0.0.1:0"),
		framework.WithSetting("server.drain.delay", "0s"), framework.WithSetting("registry.kind", "static"),
		framework.WithEvents(func(e framework.Event) {
			if l, ok := e.(framework.Listening); ok {
				listening <- l.Endpoints["admin"]
			}
		}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case admin = <-listening:
	case err := <-ended:
		t.Fatalf("the app ended: %v", err)
	}
	return app, admin
}

// probe asks for one page, each time on a connection of its own as a kubelet
// does.
func probe(t *testing.T, admin, path string) (code int, body string, took time.Duration) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	begun := time.Now()
	resp, err := client.Get("http://" + admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), time.Since(begun)
}

// slowest is the longest of 50 answers of a page, which must have one code.
func slowest(t *testing.T, admin, path string, code int) (longest time.Duration) {
	t.Helper()
	for range 50 {
		got, body, took := probe(t, admin, path)
		if got != code {
			t.Fatalf("%s = %d, want %d: %s", path, got, code, body)
		}
		longest = max(longest, took)
	}
	return longest
}

// TestHealthWhileChecksHang: /health answers within 50 ms while every check
// hangs and ignores its context, before the start is over as well as after it.
func TestHealthWhileChecksHang(t *testing.T) {
	const bound = 50 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	var hang atomic.Bool
	var hanging atomic.Int64
	setup := func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, plainEcho)
		for i := range 20 {
			s.Check(fmt.Sprint("check ", i), func(context.Context) error {
				if hang.Load() {
					hanging.Add(1)
					<-release
				}
				return nil
			}, health.Interval(100*time.Millisecond), health.Timeout(20*time.Millisecond))
		}
		return nil
	}
	// The bound is that of each of 50 answers. A machine that does other things
	// as well may miss it by accident, but not every time.
	within := func(admin, path string, code int) {
		t.Helper()
		var longest time.Duration
		for range 10 {
			if longest = slowest(t, admin, path, code); longest <= bound {
				t.Logf("%s: the slowest of 50 answers took %v", path, longest)
				return
			}
		}
		t.Errorf("%s: the slowest of 50 answers took %v, want at most %v", path, longest, bound)
	}
	t.Run("after the start", func(t *testing.T) {
		app, admin := onLoopback(t, setup)
		<-app.Ready()
		within(admin, "/health", http.StatusOK)
		hang.Store(true)
		for app.Health().Status != framework.HealthDown || hanging.Load() < 20 {
			<-time.After(time.Millisecond)
		}
		within(admin, "/health", http.StatusServiceUnavailable)
		within(admin, "/health/live", http.StatusOK)
		within(admin, "/health/startup", http.StatusOK)
		within(admin, "/metrics", http.StatusOK)
		if n := hanging.Load(); n != 20 {
			t.Errorf("20 checks were started %d times while they hang", n)
		}
		_, body, _ := probe(t, admin, "/health")
		var doc framework.HealthDocument
		if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc.Checks) != 20 {
			t.Fatalf("%v, %d checks", err, len(doc.Checks))
		}
		for _, c := range doc.Checks {
			if c.Status != "down" || c.Error != "no answer within 20ms" || c.Failures < 2 {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("before the start", func(t *testing.T) {
		app, admin := onLoopback(t, setup) // they hang from the first run on
		within(admin, "/health", http.StatusServiceUnavailable)
		within(admin, "/health/live", http.StatusOK)
		within(admin, "/health/startup", http.StatusServiceUnavailable)
		select {
		case <-app.Ready():
			t.Error("ready although no check has passed")
		default:
		}
	})
}

// TestProbes goes through what the three probes and gRPC health say as things
// go wrong. Only readiness changes: no failure of a check or a dependency makes
// a platform restart the process.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db, billing atomic.Bool // they fail
		fails := func(b *atomic.Bool) func(context.Context) error {
			return func(context.Context) error {
				if b.Load() {
					return errors.New("gone")
				}
				return nil
			}
		}
		var beat func()
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Check("db", fails(&db))
			s.Check("billing", fails(&billing), health.Dependency())
			s.CheckDependency("search", health.HTTP(&http.Client{Transport: noRoute{}}, "http://search/ping"))
			s.Check("index", fails(&billing), health.For(echoDesc.ServiceName))
			beat = s.Heartbeat("loop", time.Minute)
			return nil
		})
		advance(10 * time.Second)
		state := func(step string, ready int, status string, downs ...string) framework.HealthDocument {
			t.Helper()
			for path, want := range map[string]int{"/health": ready, "/health/ready": ready, "/health/live": 200, "/health/startup": 200} {
				if code, body := ask(t, app, http.MethodGet, path, ""); code != want {
					t.Errorf("%s: GET %s = %d, want %d: %s", step, path, code, want, body)
				}
			}
			doc := app.Health()
			var down []string
			for _, c := range doc.Checks {
				if c.Status != "ok" {
					down = append(down, c.Name)
				}
			}
			if doc.Status != status || !slices.Equal(down, downs) {
				t.Errorf("%s: %s with %q down, want %s with %q", step, doc.Status, down, status, downs)
			}
			return doc
		}
		state("a dependency is gone from the start", 200, "degraded", "search")
		billing.Store(true)
		advance(20 * time.Second)
		state("two more are gone", 200, "degraded", "billing", "index", "search")
		db.Store(true)
		advance(20 * time.Second)
		state("the database is gone", 503, "down", "billing", "db", "index", "search")
		db.Store(false)
		billing.Store(false)
		advance(20 * time.Second)
		state("all is back", 503, "down", "loop", "search") // it has not beaten for more than a minute
		beat()
		doc := state("the loop, too", 200, "degraded", "search")
		for _, c := range doc.Checks {
			switch c.Name {
			case "db":
				if c.LastError != "gone" || c.LastErrorAt == "" || c.Error != "" || !c.Critical {
					t.Errorf("%+v", c)
				}
			case "search":
				if !c.Dependency || c.Critical || c.Failures == 0 || !strings.HasPrefix(c.Error, "get http://search/ping: ") {
					t.Errorf("%+v", c)
				}
			case "index":
				if c.Critical || !slices.Equal(c.Services, []string{echoDesc.ServiceName}) {
					t.Errorf("%+v", c)
				}
			}
		}
	})
}

type noRoute struct{}

func (noRoute) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }

// TestServiceHealth: a check that is bound to one gRPC service takes that out of
// rotation for those who watch it, and not the instance.
func TestServiceHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		env := frameworktest.New(t)
		app := env.Start("echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			s.Check("index", func(context.Context) error {
				if fails.Load() {
					return errors.New("being built")
				}
				return nil
			}, health.For(echoDesc.ServiceName))
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		client := healthpb.NewHealthClient(env.Direct(app))
		watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: echoDesc.ServiceName})
		if err != nil {
			t.Fatal(err)
		}
		told := func(want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if got, err := watch.Recv(); err != nil || got.GetStatus() != want {
				t.Errorf("watch says %v, %v, want %v", got, err, want)
			}
		}
		told(healthpb.HealthCheckResponse_SERVING)
		fails.Store(true)
		told(healthpb.HealthCheckResponse_NOT_SERVING)
		whole, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
		if err != nil || whole.GetStatus() != healthpb.HealthCheckResponse_SERVING || app.Health().Status != framework.HealthDegraded {
			t.Errorf("the instance is %v, %v, %s", whole, err, app.Health().Status)
		}
		fails.Store(false)
		told(healthpb.HealthCheckResponse_SERVING)
	})
}

// TestHealthSetupErrors: a check that cannot do what it is there for ends the
// start.
func TestHealthSetupErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		setup func(*framework.Service)
		want  string
	}{
		"service": {
			func(s *framework.Service) {
				s.Check("index", func(context.Context) error { return nil }, health.For("echo.v2.Echo"))
			},
			`health check "index" is for the gRPC service "echo.v2.Echo", which is not registered here`,
		},
		"remote":   {func(s *framework.Service) { s.CheckDependency("billing", health.GRPC(nil, "")) }, `"billing": the gRPC connection is nil`},
		"reserved": {func(s *framework.Service) { s.CheckDependency("config", health.Remote{}) }, "the framework has one of this name"},
		"flapping": {func(s *framework.Service) { s.Heartbeat(health.FlappingCheck, time.Second)() }, `"flapping": the name is taken`},
	} {
		app, err := framework.New("echo", func(_ context.Context, s *framework.Service) error {
			tc.setup(s)
			return nil
		}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
			framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", "127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// wedged is where the loop of TestHeartbeatPage gets stuck.
//
//go:noinline
func wedged(ctx context.Context) { <-ctx.Done() }

// TestHeartbeatPage: a stuck heartbeat is in /health by its name, and with its
// stack in the log, among the events and on /debug/heartbeats.
func TestHeartbeatPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		var logs lockedBuffer
		app := frameworktest.Start(t, "echo", func(_ context.Context, s *framework.Service) error {
			s.RegisterService(&echoDesc, plainEcho)
			beat := s.Heartbeat("loop", 10*time.Second)
			s.Go("loop", func(ctx context.Context) error {
				for range 5 {
					beat()
					advance(time.Second)
				}
				wedged(ctx)
				return nil
			})
			return nil
		}, r.option(), framework.WithLogOutput(&logs))
		page := func() (docs []framework.HeartbeatDocument) {
			t.Helper()
			_, body := ask(t, app, http.MethodGet, "/debug/heartbeats", "")
			if err := json.Unmarshal([]byte(body), &docs); err != nil || len(docs) != 1 {
				t.Fatalf("%v: %s", err, body)
			}
			return docs
		}
		advance(5 * time.Second)
		if d := page()[0]; d.Name != "loop" || d.PauseS != 10 || d.Overdue || d.Stuck != nil || !strings.Contains(d.Function, "TestHeartbeatPage") {
			t.Errorf("%+v", d)
		}
		advance(10 * time.Second)
		d := page()[0]
		if !d.Overdue || d.Stuck == nil || !strings.Contains(d.Stuck.Stack, "framework_test.wedged") {
			t.Fatalf("%+v, %+v", d, d.Stuck)
		}
		if count[framework.HeartbeatStuck](&r) != 1 || !strings.Contains(logs.String(), "heartbeat is overdue") || !strings.Contains(logs.String(), "framework_test.wedged") {
			t.Errorf("%d events, log:\n%s", count[framework.HeartbeatStuck](&r), logs.String())
		}
		code, body := ask(t, app, http.MethodGet, "/health", "")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "no beat for") || !strings.Contains(body, "TestHeartbeatPage") {
			t.Errorf("%d %s", code, body)
		}
		if strings.Contains(body, "goroutine") || strings.Contains(body, "wedged") {
			t.Errorf("/health shows a stack: %s", body)
		}
		if _, metrics := ask(t, app, http.MethodGet, "/metrics", ""); !strings.Contains(metrics, `plinth_health_check_up{check="loop"} 0`) ||
			!strings.Contains(metrics, `plinth_health_check_up{check="flapping"} 1`) {
			t.Error("the metrics do not have it")
		}
	})
}
