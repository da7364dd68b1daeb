package framework_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	"plinth.internal/middleware"
)

func debugLimit(t *testing.T, app *frameworktest.App) framework.LimitDocument {
	t.Helper()
	_, body := ask(t, app, http.MethodGet, "/debug/limit", "")
	var doc framework.LimitDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestLimit: the limiter is on unless it is said otherwise, its settings are hot, and
// what it turns away is counted for each call and logged once.
func TestLimit(t *testing.T) {
	f := newFile(t, "")
	var logs lockedBuffer
	entered, release := make(chan struct{}, 100), make(chan struct{})
	setup := func(ctx context.Context, s *framework.Service) error {
		s.Handle("GET /hello", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		return setupEcho(echo{say: func(ctx context.Context, in string) (string, error) {
			if in == "hold" {
				entered <- struct{}{}
				<-release
			}
			return middleware.CriticalityOf(ctx).String(), nil
		}})(ctx, s)
	}
	env := frameworktest.New(t)
	app := env.Start("echo", setup, framework.WithConfigFile(f.path), framework.WithLogOutput(&logs))
	if doc := debugLimit(t, app); !doc.Learns || doc.Limit == 0 || doc.Parts["critical_plus"] <= doc.Parts["critical"] || doc.Parts["sheddable"] >= doc.Parts["sheddable_plus"] {
		t.Errorf("at the start: %+v", doc)
	}
	conn := env.Direct(app)
	ctx := metadata.AppendToOutgoingContext(t.Context(), middleware.HeaderCriticality, "sheddable")
	if got, err := say(ctx, conn, "x"); err != nil || got != "sheddable" {
		t.Errorf("in the handler a call is %q (%v)", got, err)
	}

	f.write("server: {limit: {max: 1}}\n")
	within(t, inTheEnd, "the limit", func() bool { return debugLimit(t, app).Limit == 1 })
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = say(t.Context(), conn, "hold") })
	<-entered
	const n = 50
	for range n {
		if _, err := say(t.Context(), conn, "x"); status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	}
	resp, err := app.HTTP().Get("http://echo/hello")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("over HTTP: %d, %v", resp.StatusCode, resp.Header)
	}
	if doc := app.Health(); doc.Status != framework.HealthOK { // is asked over HTTP, on the admin listener
		t.Errorf("health: %+v", doc)
	}
	close(release)
	wg.Wait()
	if got := strings.Count(logs.String(), "calls are turned away"); got != 1 {
		t.Errorf("the log tells %d times of calls that are turned away", got)
	}
	if strings.Contains(logs.String(), "RESOURCE_EXHAUSTED") {
		t.Error("the log has lines of calls that were turned away")
	}
	_, page := ask(t, app, http.MethodGet, "/metrics", "")
	for _, want := range []string{
		fmt.Sprintf(`plinth_server_rejected_total{method="test.v1.Echo/Say",reason="in_flight"} %d`, n),
		`plinth_server_rejected_total{method="GET /hello",reason="in_flight"}`, "plinth_server_limit 1\n", "plinth_server_limited_calls_in_flight 0",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}

	f.write("server: {limit: {rate: {say: {method: test.v1.Echo/Say, rps: 0.01, burst: 2}}}}\n")
	within(t, inTheEnd, "the rate", func() bool { return debugLimit(t, app).Limit > 1 })
	for i, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
		var trailer metadata.MD
		if _, err := say(t.Context(), conn, "x", grpc.Trailer(&trailer)); status.Code(err) != want {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
		if v := trailer.Get("grpc-retry-pushback-ms"); (len(v) == 1) != (want != codes.OK) {
			t.Errorf("call %d: pushback %v", i, v)
		}
	}
	f.write("server: {limit: {enabled: false}}\n")
	within(t, inTheEnd, "no limit", func() bool { return !debugLimit(t, app).Learns })
	if _, err := say(t.Context(), conn, "x"); err != nil {
		t.Error(err)
	}
	f.write("server: {limit: {max: -1, rate: {a: {rps: 0}, b: {rps: 1, method: /x}}}}\n")
	within(t, inTheEnd, "the bad document", func() bool { _, check := configCheck(app); return check.Status == framework.HealthDown })
	_, check := configCheck(app)
	for _, want := range []string{"server.limit.max", "server.limit.rate.a.rps", "server.limit.rate.b.method"} {
		if !strings.Contains(check.Error, want) {
			t.Errorf("the error does not name %s: %s", want, check.Error)
		}
	}
}

// TestSettingsTexts: an error names the place of what is wrong and says a value once.
func TestSettingsTexts(t *testing.T) {
	for text, want := range map[string]string{
		"server:\n  limit:\n    rate:\n      x:\n        burst: 1\n":                                                                                     ":5: server.limit.rate.x.rps: is missing, or 0: want how many",
		"server:\n  limit:\n    rate:\n      x:\n        rps: 0\n":                                                                                       ":5: server.limit.rate.x.rps: is missing, or 0: want how many",
		"server:\n  limit:\n    rate:\n      x:\n        rps: -1\n":                                                                                      `:5: server.limit.rate.x.rps: "-1" is not above 0 and at most`,
		"server:\n  auth:\n    mode: on\n    policy:\n      a:\n        methods: ['*']\n        allow: ['nobody:*']\n":                                   `:7: server.auth.policy.a.allow: "nobody:*" begins with none of mtls: (want`,
		"server:\n  auth:\n    mode: on\n    policy:\n      a:\n        allow: [any]\n":                                                                  ":6: server.auth.policy.a.methods: must name the methods",
		"server:\n  auth:\n    mode: off\n    issuers:\n      corp:\n        issuer: x\n        audience: [a]\n        keys: https://a:hunter2@x/keys\n": ":8: server.auth.issuers.corp.keys: has a password in it",
	} {
		f := newFile(t, text)
		_, err := framework.New("echo", setupEcho(plainEcho), framework.WithConfigFile(f.path),
			framework.WithEnviron([]string{"HOME=" + t.TempDir()}), framework.WithLogOutput(t.Output()))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s%v, want %s", text, err, want)
		}
	}
}

// TestLimitKnowsCallers: a service is known by its name to those that it calls.
func TestLimitKnowsCallers(t *testing.T) {
	env := frameworktest.New(t)
	echo := env.Start("echo", setupEcho(plainEcho))
	var conn *grpc.ClientConn
	env.Start("front", func(_ context.Context, s *framework.Service) (err error) {
		conn, err = s.Client("echo")
		return err
	})
	within(t, 10*time.Second, "the caller's name", func() bool {
		for range 50 {
			if _, err := say(t.Context(), conn, "x"); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range debugLimit(t, echo).Callers {
			if c.Caller == "front" && c.Rate > 0 {
				return true
			}
		}
		return false
	})
}

// TestDroppedIsCounted: calls whose deadline has passed are counted with their reason.
func TestDroppedIsCounted(t *testing.T) {
	app := run(t, "echo", func(_ context.Context, s *framework.Service) error {
		s.Handle("GET /hello", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") }))
		return nil
	}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()), framework.WithSetting("server.grpc.addr", ""),
		framework.WithSetting("server.http.addr", "127.0.0.1:0"), framework.WithSetting("server.admin.addr", "127.0.0.1:0"))
	get := func(url, timeout string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Close = true
		if timeout != "" {
			r.Header.Set("Grpc-Timeout", timeout)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := get("http://"+app.Endpoints()["http"]+"/hello", "1n"); code != http.StatusGatewayTimeout {
		t.Errorf("%d %s", code, body)
	}
	const want = `plinth_server_rejected_total{method="GET /hello",reason="expired"} 1`
	if _, page := get("http://"+app.Endpoints()["admin"]+"/metrics", ""); !strings.Contains(page, want) {
		t.Errorf("the metrics have no %s", want)
	}
	_, page := get("http://"+app.Endpoints()["admin"]+"/debug/limit", "")
	for _, want := range []string{`"expired": 1`, `"canceled": 0`, `"in_flight": 0`} {
		if !strings.Contains(page, want) {
			t.Errorf("/debug/limit has no %s: %s", want, page)
		}
	}
}

// TestRateOfProvedCaller: who proves nothing neither uses up the rate of who proves it,
// nor gets one of its own for each name that it says.
func TestRateOfProvedCaller(t *testing.T) {
	l := newLogin(t)
	var logs lockedBuffer
	app := frameworktest.Start(t, "back", func(_ context.Context, s *framework.Service) error {
		for _, route := range []string{"GET /limits", "GET /each"} {
			s.Handle(route, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		}
		return nil
	}, append(settingsOf(map[string]string{
		"telemetry.log.format": "json",
		"server.auth.mode":     "on", "server.auth.issuers.corp.issuer": "https://login.test", "server.auth.issuers.corp.audience": "back",
		"server.auth.issuers.corp.keys": l.keys, "server.auth.policy.all.methods": "GET *", "server.auth.policy.all.allow": "anonymous",
		"server.limit.rate.ann.caller": "corp:ann@example.org", "server.limit.rate.ann.method": "GET /limits",
		"server.limit.rate.ann.rps": "0.01", "server.limit.rate.ann.burst": "2",
		"server.limit.rate.each.caller": "*", "server.limit.rate.each.method": "GET /each", "server.limit.rate.each.rps": "0.01",
	}), framework.WithLogOutput(&logs))...)
	web, token := app.HTTP(), l.token(t, "ann@example.org", "")
	for i, tc := range []struct {
		path, says, token string
		want              int
	}{
		{"/limits", "corp:ann@example.org", "", http.StatusOK},
		{"/limits", "corp:ann@example.org", "", http.StatusOK},
		{"/limits", "corp:ann@example.org", "", http.StatusOK},
		{"/limits", "", token, http.StatusOK},
		{"/limits", "", token, http.StatusOK},
		{"/limits", "", token, http.StatusTooManyRequests},
		{"/each", "x1", "", http.StatusOK},
		{"/each", "x2", "", http.StatusTooManyRequests},
		{"/each", "", token, http.StatusOK},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://back"+tc.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if tc.says != "" {
			r.Header.Set(middleware.HeaderCaller, tc.says)
		}
		if tc.token != "" {
			r.Header.Set("Authorization", "Bearer "+tc.token)
		}
		resp, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("request %d: %d, want %d", i, resp.StatusCode, tc.want)
		}
	}
	if want := `"rate":"ann"`; !strings.Contains(logs.String(), want) {
		t.Errorf("the log does not name the rate: no %s", want)
	}
}
