package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"plinth.internal/config"
	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// file is a configuration file that a test changes.
type file struct {
	t    *testing.T
	path string
}

func newFile(t *testing.T, content string) *file {
	f := &file{t, filepath.Join(t.TempDir(), "plinth.yaml")}
	f.write(content)
	return f
}

func (f *file) write(content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// inTime is how long a change may take to be in use.
const inTime = time.Second

// inTheEnd is for tests of what a change does: when it does it is held by those of
// the reload.
const inTheEnd = 10 * time.Second

// within waits for a condition, and tells how long it took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		advance(5 * time.Millisecond)
	}
	return time.Since(begun)
}

func debugConfig(t *testing.T, app *frameworktest.App) framework.ConfigDocument {
	t.Helper()
	_, body := ask(t, app, http.MethodGet, "/debug/config", "")
	var doc framework.ConfigDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func configCheck(app *frameworktest.App) (status string, check framework.CheckHealth) {
	doc := app.Health()
	i := slices.IndexFunc(doc.Checks, func(c framework.CheckHealth) bool { return c.Name == "config" })
	if i < 0 {
		return doc.Status, framework.CheckHealth{}
	}
	return doc.Status, doc.Checks[i]
}

type limits struct {
	PerUser int    `hot:"true"    yaml:"per_user"`
	Table   string `yaml:"table"`
}

// TestReload changes the file of a running service: hot keys of its own and of
// the framework, cold ones, and documents that cannot be used.
func TestReload(t *testing.T) {
	f := newFile(t, "limits: {per_user: 1}\n")
	var logs lockedBuffer
	var mine *config.Value[limits]
	setup := func(_ context.Context, s *framework.Service) (err error) {
		mine, err = config.Watch(s.Config(), "limits", limits{Table: "users"})
		return err
	}
	app := frameworktest.Start(t, "front", setup, framework.WithConfigFile(f.path), framework.WithLogOutput(&logs))
	if status, check := configCheck(app); status != framework.HealthOK || check.Status != framework.HealthOK || check.Critical {
		t.Errorf("at the start: %s, %+v", status, check)
	}
	level := func() string {
		_, body := ask(t, app, http.MethodGet, "/debug/log", "")
		return body
	}

	f.write("limits: {per_user: 2}\ntelemetry: {log: {level: debug}, trace: {sample: 0.5}}\n")
	within(t, inTime, "hot keys", func() bool { return mine.Get().PerUser == 2 && strings.Contains(level(), "debug") })
	doc := debugConfig(t, app)
	if v := doc.Values["limits.per_user"]; v.Value != "2" || !v.Hot || !strings.HasSuffix(v.Source, "plinth.yaml:1") {
		t.Errorf("limits.per_user is %+v", v)
	}
	if doc.File != f.path || doc.Reload.Outcome != "applied" || doc.Reload.At == "" || len(doc.Restart) != 0 {
		t.Errorf("after a good document: %+v", doc)
	}

	if code, answer := ask(t, app, http.MethodPut, "/debug/log", "warn"); code != http.StatusOK {
		t.Fatal(code, answer)
	}
	f.write("limits: {per_user: 3, table: people}\ntelemetry: {log: {level: debug}, trace: {sample: 0.5}}\n")
	within(t, inTime, "a cold key beside a hot one", func() bool { return mine.Get().PerUser == 3 })
	if got := mine.Get().Table; got != "users" {
		t.Errorf("the table is %q, want the one of the start", got)
	}
	if !strings.Contains(level(), "warn") {
		t.Error("a change of something else takes back the level that was set by hand")
	}
	if doc := debugConfig(t, app); !slices.Equal(doc.Restart, []string{"limits.table"}) || doc.Values["limits.table"].Value != "users" {
		t.Errorf("after a cold change: %q, %+v", doc.Restart, doc.Values["limits.table"])
	}
	within(t, inTime, "the warning", func() bool { return strings.Contains(logs.String(), "need a restart") })

	f.write("limits: {per_user: 4}\ntelemetry: {log: {level: loud}}\n")
	within(t, inTime, "the bad document", func() bool { status, _ := configCheck(app); return status == framework.HealthDegraded })
	if _, check := configCheck(app); check.Status != framework.HealthDown || !strings.Contains(check.Error, `telemetry.log.level: "loud" is none of`) {
		t.Errorf("the check says %+v", check)
	}
	if code, _ := ask(t, app, http.MethodGet, "/health/ready", ""); code != http.StatusOK {
		t.Errorf("a bad document makes the service not ready: %d", code)
	}
	if doc := debugConfig(t, app); doc.Reload.Outcome != "rejected" || !strings.Contains(doc.Reload.Error, "loud") || mine.Get().PerUser != 3 {
		t.Errorf("after a bad document: %+v, %+v", doc.Reload, mine.Get())
	}
	if _, metrics := ask(t, app, http.MethodGet, "/metrics", ""); !strings.Contains(metrics, "plinth_config_valid 0") ||
		!strings.Contains(metrics, `plinth_config_reloads_total{outcome="rejected"} 1`) || !strings.Contains(metrics, `plinth_health_check_up{check="config"} 0`) {
		t.Error("the metrics do not tell of the bad document")
	}

	f.write("limits: {per_user: 5}\ntelemetry: {log: {level: error}}\n")
	within(t, inTime, "a good document", func() bool { status, _ := configCheck(app); return status == framework.HealthOK })
	if mine.Get().PerUser != 5 || !strings.Contains(level(), "error") {
		t.Errorf("%+v, %s", mine.Get(), level())
	}
	if _, metrics := ask(t, app, http.MethodGet, "/metrics", ""); !strings.Contains(metrics, "plinth_config_valid 1") {
		t.Error("the metrics do not tell of the good document")
	}
	for _, want := range []string{"configuration changed", "configuration rejected"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, logs.String())
		}
	}
}

// TestReloadPanic: a service's function that panics for a change is told of, and
// the file is followed on.
func TestReloadPanic(t *testing.T) {
	f := newFile(t, "")
	var mine *config.Value[limits]
	setup := func(_ context.Context, s *framework.Service) (err error) {
		if mine, err = config.Watch(s.Config(), "limits", limits{}); err == nil {
			mine.OnChange(func(_, current limits) {
				if current.PerUser == 1 {
					panic("one")
				}
			})
		}
		return err
	}
	failed := make(chan error, 1)
	frameworktest.Start(t, "front", setup, framework.WithConfigFile(f.path), framework.WithEvents(func(e framework.Event) {
		if e, ok := e.(framework.GoroutineFailed); ok {
			failed <- e.Err
		}
	}))
	f.write("limits: {per_user: 1}\n")
	if err := <-failed; !strings.Contains(err.Error(), "one") {
		t.Error(err)
	}
	f.write("limits: {per_user: 2}\n")
	within(t, 2*inTime, "the change after the panic", func() bool { return mine.Get().PerUser == 2 })
}

// TestReservedCheck: nobody takes the place of the configuration in /health.
func TestReservedCheck(t *testing.T) {
	for name, register := range map[string]func(s *framework.Service){
		"check":     func(s *framework.Service) { s.Check("config", func(context.Context) error { return nil }) },
		"heartbeat": func(s *framework.Service) { s.Heartbeat("config", time.Second)() },
	} {
		app, err := framework.New("front", func(_ context.Context, s *framework.Service) error {
			register(s)
			return nil
		}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "choose another one") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReloadUnderLoad changes the settings of a client 20 times while 16
// goroutines call through it: every change is in use within 1 s, and no call is
// lost.
func TestReloadUnderLoad(t *testing.T) {
	changes := 20
	if testing.Short() {
		changes = 3
	}
	const callers = 16
	env := frameworktest.New(t)
	// The handler tells the time that its caller gives it.
	for range 3 {
		env.Start("echo", setupEcho(echo{say: func(ctx context.Context, _ string) (string, error) {
			d, ok := ctx.Deadline()
			if !ok {
				return "", errors.New("no deadline")
			}
			advance(time.Millisecond)
			return time.Until(d).String(), nil
		}}))
	}
	content := func(i int) string {
		balancers := []string{"adaptive", "round_robin", "least_request", "random", "weighted", "precise", "consistent_hash", "pick_first"}
		breakers := []string{"adaptive", "classic", "off"}
		return fmt.Sprintf(`clients:
  default:
    retry: {max_attempts: %d, backoff: %dms}
  echo:
    timeout: %ds
    balancer: %s
    breaker: %s
    ejection: {enabled: %t, consecutive: %d}
    hedge: {enabled: %t, delay: 100ms}
    methods: {Say: {breaker: %s, attempt_timeout: %ds}}
`, i%5+1, i+1, 10*(i+1), balancers[i%len(balancers)], breakers[i%3], i%2 == 0, i+1, i%2 == 1, breakers[i/3%3], 10*(i+1))
	}
	f := newFile(t, content(0))
	var conn *grpc.ClientConn
	env.Start("front", func(_ context.Context, s *framework.Service) (err error) {
		conn, err = s.Client("echo")
		return err
	}, framework.WithConfigFile(f.path))

	var calls, lost atomic.Int64
	var timeout atomic.Int64 // in the last answer, in steps of ten seconds, rounded up
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				answer, err := say(t.Context(), conn, "x")
				calls.Add(1)
				left, bad := time.ParseDuration(answer)
				if err != nil || bad != nil {
					lost.Add(1)
					t.Errorf("a call is lost: %v %v", err, bad)
					return
				}
				timeout.Store(int64((left + 10*time.Second - 1) / (10 * time.Second)))
			}
		})
	}
	within(t, 10*time.Second, "the first calls", func() bool { return timeout.Load() == 1 })
	var slowest time.Duration
	for i := 1; i <= changes; i++ {
		f.write(content(i))
		took := within(t, inTime, fmt.Sprintf("change %d", i), func() bool { return timeout.Load() == int64(i+1) })
		slowest = max(slowest, took)
	}
	stop()
	wg.Wait()
	t.Logf("%d calls, %d lost; %d changes, the slowest in use after %v", calls.Load(), lost.Load(), changes, slowest)
	if calls.Load() < int64(100*changes) {
		t.Errorf("%d calls are no load", calls.Load())
	}
}

// TestHotLogFormat: lines have the new format from the change on, those of loggers
// that the service made before as well.
func TestHotLogFormat(t *testing.T) {
	f := newFile(t, "telemetry: {log: {format: json}}\n")
	var logs lockedBuffer
	var own *zap.Logger
	app, err := framework.New("front", func(_ context.Context, s *framework.Service) error {
		own = s.Logger().With(zap.String("part", "own"))
		return nil
	}, framework.WithConfigFile(f.path), framework.WithEnviron(nil), framework.WithLogOutput(&logs),
		framework.WithSetting("server.grpc.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", ""))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	<-app.Ready()
	if strings.Contains(logs.String(), "\tINFO\t") {
		t.Errorf("not JSON: %s", logs.String())
	}
	f.write("telemetry: {log: {format: console}}\n")
	within(t, inTime, "the new format", func() bool { return strings.Contains(logs.String(), "\tINFO\tconfiguration changed\t{") })
	own.Info("hello")
	if !strings.Contains(logs.String(), "\tINFO\thello\t{") || !strings.Contains(logs.String(), `"part": "own"`) {
		t.Errorf("a logger of the service does not follow: %s", logs.String())
	}
	if strings.Contains(logs.String(), "need a restart") {
		t.Errorf("the format is not hot: %s", logs.String())
	}
}
