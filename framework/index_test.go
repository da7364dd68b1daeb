package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
)

// TestAdminIndex: a person finds out on the first page how the process is, and what
// each page is for.
func TestAdminIndex(t *testing.T) {
	app := frameworktest.Start(t, "echo", func(ctx context.Context, s *framework.Service) error {
		s.Check("disk", func(context.Context) error { return errors.New("full") }, health.NotCritical())
		return setupEcho(plainEcho)(ctx, s)
	})
	var index struct {
		Status string            `json:"status"`
		Pages  []string          `json:"pages"`
		About  map[string]string `json:"about"`
	}
	read := func() string {
		code, body := ask(t, app, http.MethodGet, "/debug/", "")
		if err := json.Unmarshal([]byte(body), &index); err != nil || code != http.StatusOK {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		return index.Status
	}
	const want = "Health: degraded, in phase serving: check disk is down."
	for deadline := time.Now().Add(10 * time.Second); read() != want; {
		if time.Now().After(deadline) {
			t.Fatalf("of the process it says %q, want %q", index.Status, want)
		}
	}
	for _, path := range index.Pages {
		if index.About[path] == "" {
			t.Errorf("nothing is said of %s", path)
		}
	}
	if len(index.About) != len(index.Pages) {
		t.Errorf("there are %d sentences for %d pages", len(index.About), len(index.Pages))
	}
	_, _, page := view(t, app, "/debug/", "text/html")
	for _, text := range []string{"<p>" + want + "</p>", index.About["/debug/clients"]} {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
}
