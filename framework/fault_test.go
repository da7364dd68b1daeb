package framework_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/middleware/fault"
)

func faultCheck(app *frameworktest.App) (health string, check framework.CheckHealth, ok bool) {
	doc := app.Health()
	i := slices.IndexFunc(doc.Checks, func(c framework.CheckHealth) bool { return c.Name == "faults" })
	if i < 0 {
		return doc.Status, framework.CheckHealth{}, false
	}
	return doc.Status, doc.Checks[i], true
}

// setupBoth serves test.v1.Echo and GET /echo.
func setupBoth(_ context.Context, s *framework.Service) error {
	s.RegisterService(&echoDesc, plainEcho)
	s.Handle("GET /echo", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	return nil
}

// status of a request to GET /echo, 0 for none.
func getEcho(t *testing.T, app *frameworktest.App) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://echo/echo", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := app.HTTP().Do(req)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// TestFaults changes the rules in the file of a running service: calls over gRPC
// and HTTP fail as they say, and log, metrics and /health tell of it.
func TestFaults(t *testing.T) {
	f := newFile(t, "server: {fault: {allow: true}}\n")
	var mu sync.Mutex
	var changes []framework.FaultsChanged
	var logs lockedBuffer
	app := frameworktest.Start(t, "echo", setupBoth, framework.WithConfigFile(f.path), framework.WithLogOutput(&logs), framework.WithEvents(func(e framework.Event) {
		if e, ok := e.(framework.FaultsChanged); ok {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, e)
		}
	}))
	if health, check, ok := faultCheck(app); !ok || health != framework.HealthOK || check.Status != framework.HealthOK || check.Critical {
		t.Errorf("without rules: %s %+v %v", health, check, ok)
	}
	if !strings.Contains(logs.String(), "faults on demand are allowed") {
		t.Error("the start does not warn")
	}
	if _, err := say(t.Context(), app.Conn(), "x"); err != nil {
		t.Fatal(err)
	}

	f.write(`server: {fault: {allow: true, rules: {
  say: {method: test.v1.Echo/Say, code: DATA_LOSS},
  web: {method: GET /echo, code: NOT_FOUND, percent: 100}}}}
`)
	within(t, inTheEnd, "the rules", func() bool {
		_, err := say(t.Context(), app.Conn(), "x")
		return status.Code(err) == codes.DataLoss && fault.Domain.Is(err, fault.Reason)
	})
	if code, err := getEcho(t, app); code != http.StatusNotFound {
		t.Errorf("HTTP: %d %v", code, err)
	}
	if health, check, _ := faultCheck(app); health != framework.HealthDegraded || check.Status != framework.HealthDown || !strings.Contains(check.Error, "say, web") {
		t.Errorf("with rules: %s %+v", health, check)
	}
	if code, _ := ask(t, app, http.MethodGet, "/health/ready", ""); code != http.StatusOK {
		t.Errorf("faults make the service not ready: %d", code)
	}
	_, text := ask(t, app, http.MethodGet, "/metrics", "")
	for _, want := range []string{`plinth_server_faults_total{fault="error",rule="say"}`, `plinth_server_faults_total{fault="error",rule="web"} 1`, `plinth_health_check_up{check="faults"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	f.write("server: {fault: {allow: true, headers: true, rules: {}}}\n")
	ask := metadata.AppendToOutgoingContext(t.Context(), fault.Header, "code=ABORTED")
	within(t, inTheEnd, "the header", func() bool {
		_, err := say(ask, app.Conn(), "x")
		return status.Code(err) == codes.Aborted
	})
	if _, err := say(t.Context(), app.Conn(), "x"); err != nil {
		t.Errorf("without the header: %v", err)
	}
	if health, check, _ := faultCheck(app); health != framework.HealthDegraded || !strings.Contains(check.Error, fault.Header) {
		t.Errorf("with the header: %s %+v", health, check)
	}

	// A hang is over when its rule is.
	f.write("server: {fault: {allow: true, rules: {stop: {hang: true}}}}\n")
	within(t, inTheEnd, "the hang", func() bool { _, check, _ := faultCheck(app); return strings.Contains(check.Error, "rules stop") })
	done := make(chan error, 1)
	go func() {
		_, err := say(t.Context(), app.Conn(), "x")
		done <- err
	}()
	advance(50 * time.Millisecond)
	f.write("server: {fault: {allow: true}}\n")
	if err := <-done; err != nil {
		t.Errorf("the call that hung: %v", err)
	}
	if health, _, _ := faultCheck(app); health != framework.HealthOK {
		t.Errorf("afterwards: %s", health)
	}
	told := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(changes)
	}
	within(t, inTheEnd, "the last change in the log", func() bool { return told() >= 5 })
	mu.Lock()
	defer mu.Unlock()
	if len(changes) != 5 || !slices.Equal(changes[1].Rules, []string{"say", "web"}) || !changes[2].Headers || len(changes[4].Rules) != 0 {
		t.Errorf("told of %+v", changes)
	}
}

// TestFaultsAbort cuts real connections over gRPC and HTTP; what is not cut works
// on.
func TestFaultsAbort(t *testing.T) {
	env := frameworktest.New(t)
	app := env.Start("echo", setupBoth, framework.WithSetting("server.fault.allow", "true"),
		framework.WithSetting("server.fault.rules.cut.abort", "true"), framework.WithSetting("server.fault.rules.cut.header.x-cut", "1"))
	other := env.Direct(app)
	if _, err := say(t.Context(), other, "x"); err != nil {
		t.Fatal(err)
	}
	conn := env.Direct(app)
	for range 3 {
		cut := metadata.AppendToOutgoingContext(t.Context(), "x-cut", "1")
		if _, err := say(cut, conn, "x"); status.Code(err) != codes.Unavailable || fault.Domain.Is(err, fault.Reason) {
			t.Errorf("the call that is cut: %v", err)
		}
		if _, err := say(t.Context(), conn, "x", grpc.WaitForReady(true)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := say(t.Context(), other, "x"); err != nil {
			t.Errorf("on another connection: %v", err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://echo/echo", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Method, req.Header = http.MethodGet, http.Header{"X-Cut": {"1"}}
	if resp, err := app.HTTP().Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("HTTP: answered %d", resp.StatusCode)
	}
	if code, err := getEcho(t, app); code != http.StatusOK {
		t.Errorf("HTTP afterwards: %d %v", code, err)
	}
}

// TestFaultsSettings: rules that cannot be, or must not, are errors that say which.
func TestFaultsSettings(t *testing.T) {
	for content, want := range map[string]string{
		"{rules: {slow: {delay: 1s}}}":                                         `server.fault.allow: "false" is not true, but there are rules (slow)`,
		"{headers: true}":                                                      "server.fault.allow",
		"{allow: true, rules: {x: {code: BROKEN}}}":                            `server.fault.rules.x.code: "BROKEN" is no code of an error`,
		"{allow: true, rules: {x: {code: OK}}}":                                "server.fault.rules.x.code",
		"{allow: true, rules: {x: {method: a}}}":                               "does nothing",
		"{allow: true, rules: {x: {hang: true, abort: true}}}":                 "a call ends once",
		"{allow: true, rules: {x: {delay: 1h}}}":                               `server.fault.rules.x.delay: "1h0m0s" is not from 0s to 5m0s`,
		"{allow: true, rules: {x: {hang: true, percent: }}}":                   "server.fault.rules.x.percent: has nothing behind it",
		"{allow: true, rules: {x: {hang: true, header: }}}":                    "server.fault.rules.x.header: has nothing behind it",
		"{allow: true, rules: {x: {hang: true, percent: 101}}}":                "server.fault.rules.x.percent",
		"{allow: true, rules: {x: {hang: true, method: a*b}}}":                 "server.fault.rules.x.method",
		"{allow: true, rules: {x: {code: NOPE, delay: -1s}, y: {code: NADA}}}": "server.fault.rules.y.code",
	} {
		f := newFile(t, "server: {fault: "+content+"}\n")
		_, err := framework.New("echo", setupBoth, framework.WithConfigFile(f.path), framework.WithEnviron(nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", content, err, want)
		}
	}
}

// TestFaultsNeedARestart: a running service that was not started for faults cannot
// be made to fail.
func TestFaultsNeedARestart(t *testing.T) {
	f := newFile(t, "")
	app := frameworktest.Start(t, "echo", setupBoth, framework.WithConfigFile(f.path))
	if _, _, ok := faultCheck(app); ok {
		t.Error("there is a check of faults where they are off")
	}
	f.write("server: {fault: {allow: true, rules: {x: {code: INTERNAL}}}}\n")
	within(t, inTheEnd, "the document", func() bool {
		_, body := ask(t, app, http.MethodGet, "/debug/config", "")
		var doc framework.ConfigDocument
		return json.Unmarshal([]byte(body), &doc) == nil && doc.Reload.Outcome != ""
	})
	if _, err := say(t.Context(), app.Conn(), "x"); err != nil {
		t.Errorf("Say: %v", err)
	}
}

// TestFaultsUnserved: a rule for a method that is not there is told of at the start
// and at a reload, with the one that was meant.
func TestFaultsUnserved(t *testing.T) {
	const rules = `say: {method: test.v1.Echo/Say, hang: true}, all: {method: test.v1.*, hang: true}, web: {method: GET /echo, hang: true},
  health: {method: grpc.health.v1.Health/Check, hang: true}, none: {method: unmatched, hang: true}, any: {hang: true, percent: 0}`
	f := newFile(t, "server: {fault: {allow: true, rules: {typo: {method: test.v1.Echo/Sya, hang: true}, "+rules+"}}}\n")
	var mu sync.Mutex
	var told []framework.MethodUnserved
	app := frameworktest.Start(t, "echo", setupBoth, framework.WithConfigFile(f.path), framework.WithEvents(func(e framework.Event) {
		if e, ok := e.(framework.MethodUnserved); ok {
			mu.Lock()
			defer mu.Unlock()
			e.Place = "" // of no interest here
			told = append(told, e)
		}
	}))
	all := func() []framework.MethodUnserved {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told)
	}
	want := []framework.MethodUnserved{{Key: "server.fault.rules.typo.method", Method: "test.v1.Echo/Sya", Nearest: "test.v1.Echo/Say"}}
	if got := all(); !slices.Equal(got, want) {
		t.Errorf("at the start: %+v", got)
	}
	if _, check, _ := faultCheck(app); !strings.Contains(check.Error, "by the rules all, any, health, none, say, web; the rule typo hits no call") {
		t.Errorf("/health: %s", check.Error)
	}
	f.write("server: {fault: {allow: true, rules: {typo: {method: GET /ecko, hang: true}, far: {method: x.y/*, hang: true}}}}\n")
	want = append(want, framework.MethodUnserved{Key: "server.fault.rules.far.method", Method: "x.y/*"}, framework.MethodUnserved{Key: "server.fault.rules.typo.method", Method: "GET /ecko", Nearest: "GET /echo"})
	within(t, inTheEnd, "the warnings of the reload", func() bool { return slices.Equal(all(), want) })
	if _, check, _ := faultCheck(app); strings.Contains(check.Error, "on purpose") || !strings.Contains(check.Error, "x.y/* is not served here") {
		t.Errorf("/health after the reload: %s", check.Error)
	}
}
