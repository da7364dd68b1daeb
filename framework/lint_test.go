package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
)

// TestLint: /debug/lint tells what to change about the process as it is now, with
// the key and where it stands.
func TestLint(t *testing.T) {
	f := newFile(t, "registry: {required: false}\nserver:\n  limit: {enabled: false}\n")
	app := frameworktest.Start(t, "echo", func(ctx context.Context, s *framework.Service) error {
		s.Check("cache", func(context.Context) error { return errors.New("down") }, health.NotCritical())
		return setupEcho(plainEcho)(ctx, s)
	}, framework.WithConfigFile(f.path), framework.WithSetting("server.drain.dump_dir", "/proc/none"), framework.WithSetting("registry.required", "false"))
	read := func() (doc framework.LintDocument, rules []string) {
		t.Helper()
		code, body := ask(t, app, http.MethodGet, "/debug/lint", "")
		if err := json.Unmarshal([]byte(body), &doc); err != nil || code != http.StatusOK {
			t.Fatalf("%d %v %s", code, err, body)
		}
		for _, f := range doc.Findings {
			rules = append(rules, f.Rule)
		}
		return doc, rules
	}
	doc, rules := read()
	if !slices.Equal(rules, []string{"limit-off", "dump-dir", "no-critical-check"}) || doc.Warnings != 2 || doc.Notes != 1 || doc.Errors != 0 {
		t.Fatalf("%+v", doc)
	}
	if l := doc.Findings[0]; l.Key != "server.limit.enabled" || l.Value != "false" || !strings.HasSuffix(l.Source, ":3") || doc.Service != "echo" {
		t.Errorf("%+v", l)
	}
	if code, _ := ask(t, app, http.MethodPut, "/debug/log", "debug"); code != http.StatusOK {
		t.Fatal(code)
	}
	f.write("registry: {required: false}\n")
	within(t, inTheEnd, "the limit", func() bool {
		doc, rules = read()
		return slices.Equal(rules, []string{"dump-dir", "no-critical-check", "log-debug"})
	})
	if l := doc.Findings[2]; l.Value != "debug" || l.Source != "/debug/log" {
		t.Errorf("%+v", l)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin/debug/lint", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	resp, err := app.Admin().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("a browser gets %q", resp.Header.Get("Content-Type"))
	}
}
