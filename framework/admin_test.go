package framework_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

func ask(t *testing.T, app *frameworktest.App, method, path, body string) (code int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://admin"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := app.Admin().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAdminPages(t *testing.T) {
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithSetting("registry.password", "hunter2"))
	for _, path := range []string{"/health", "/health/live", "/health/ready", "/health/startup", "/metrics", "/info", "/debug/", "/debug/config", "/debug/lint", "/debug/log", "/debug/pprof/"} {
		if code, body := ask(t, app, http.MethodGet, path, ""); code != http.StatusOK || body == "" {
			t.Errorf("GET %s = %d %q", path, code, body)
		}
	}
	_, body := ask(t, app, http.MethodGet, "/debug/config", "")
	var doc framework.ConfigDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	config := doc.Values
	if got := config["server.drain.delay"]; got.Value != "0s" || got.Source != "flag --server.drain.delay" || got.Hot {
		t.Errorf("server.drain.delay = %+v", got)
	}
	if got := config["server.drain.timeout"]; got.Value != "30s" || got.Source != "default" {
		t.Errorf("server.drain.timeout = %+v", got)
	}
	if strings.Contains(body, "hunter2") || config["registry.password"].Value != "***" {
		t.Errorf("the password is shown: %+v", config["registry.password"])
	}
	if !config["telemetry.log.level"].Hot || doc.File != "" || doc.Reload.At != "" || len(doc.Restart) != 0 {
		t.Errorf("without a file: %+v", doc)
	}
}

// TestAdminLogLevelType: the answer to a PUT is the view that GET answers.
func TestAdminLogLevelType(t *testing.T) {
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://admin/debug/log", strings.NewReader("warn"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := app.Admin().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	put, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, get := ask(t, app, http.MethodGet, "/debug/log", ""); string(put) != get || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("PUT answers %q as %q, GET %q", put, resp.Header.Get("Content-Type"), get)
	}
}

func TestAdminLogLevel(t *testing.T) {
	var logs lockedBuffer
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithLogOutput(&logs))
	for _, tc := range []struct {
		body string
		code int
		want string
	}{
		{`{"level":"debug"}`, 200, `"debug"`},
		{`"error"`, 200, `"error"`},
		{`""`, 400, "want a body"},
		{"null", 400, "want a body"},
		{"warn\n", 200, `"warn"`},
		{`{"level":"loud"}`, 400, `"loud" is none of`},
		{`{}`, 400, "want a body"},
		{"", 400, "want a body"},
	} {
		if code, answer := ask(t, app, http.MethodPut, "/debug/log", tc.body); code != tc.code || !strings.Contains(answer, tc.want) {
			t.Errorf("PUT %.20q = %d %q, want %d and %q", tc.body, code, answer, tc.code, tc.want)
		}
	}
	if _, answer := ask(t, app, http.MethodGet, "/debug/log", ""); !strings.Contains(answer, "warn") {
		t.Errorf("level = %s, want the last one that was right", answer)
	}
	before := logs.String()
	if _, err := say(t.Context(), app.Conn(), "x"); err != nil {
		t.Fatal(err)
	}
	if after := logs.String(); after != before {
		t.Errorf("a call is logged at warn: %s", after[len(before):])
	}
}
