package framework_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// view asks for an admin page as somebody with this Accept header does.
func view(t *testing.T, app *frameworktest.App, path, accept string) (code int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := app.Admin().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// startCaller runs a service that calls the service "billing" when it is called.
func startCaller(t *testing.T, env *frameworktest.Env) *frameworktest.App {
	t.Helper()
	var conn atomic.Pointer[grpc.ClientConn]
	forward := func(ctx context.Context, in string) (string, error) { return say(ctx, conn.Load(), in) }
	return env.Start("orders", func(ctx context.Context, s *framework.Service) error {
		cc, err := s.Client("billing")
		if err != nil {
			return err
		}
		conn.Store(cc)
		return setupEcho(echo{forward})(ctx, s)
	})
}

func TestClientsPage(t *testing.T) {
	env := frameworktest.New(t)
	sick := func(ctx context.Context, _ string) (string, error) {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1")); err != nil {
			return "", err
		}
		return "", status.Error(codes.Unavailable, `<b>"busy"</b>`)
	}
	bad := env.Start("billing", setupEcho(echo{sick}))
	app := startCaller(t, env)
	if _, err := say(t.Context(), env.Direct(app), "x"); status.Code(err) != codes.Unavailable {
		t.Fatalf("the call ended with %v", err)
	}

	_, header, body := view(t, app, "/debug/clients", "application/json")
	var doc framework.ClientsDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v in %s %s", err, header.Get("Content-Type"), body)
	}
	if doc.Service != "orders" || doc.Instance != app.Instance().ID || doc.Time == "" || len(doc.Clients) != 1 {
		t.Fatalf("the document is %+v", doc)
	}
	billing := doc.Clients[0]
	if billing.Service != "billing" || len(billing.Instances) != 1 {
		t.Fatalf("the service is %+v", billing)
	}
	if e := billing.Instances[0]; e.ID != bad.Instance().ID || e.Failures == 0 || !strings.HasPrefix(e.Why, "called: ") && !strings.HasPrefix(e.Why, "warming up: ") {
		t.Errorf("the instance is %+v", e)
	}

	for _, accept := range []string{"text/html,application/xhtml+xml", "*/*, text/html"} {
		code, header, page := view(t, app, "/debug/clients", accept)
		if code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d with %v", code, header)
		}
		for _, want := range []string{"<h2>billing</h2>", bad.Instance().ID, "called: every call fails here (1 of 1)", "every call fails over grpc", "fails more than others", "load reported", "zone factor", "oldest call", "adaptive, closed: the breaker lets all calls through: ", "The last events", "&lt;b&gt;&#34;busy&#34;", "1 of 1 instances take calls over grpc", "</html>"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		for _, bad := range []string{"ZgotmplZ", "no value", "<b>"} {
			if strings.Contains(page, bad) {
				t.Errorf("the page has %q", bad)
			}
		}
	}
	if _, _, index := view(t, app, "/debug/", "text/html"); !strings.Contains(index, `href="/debug/clients"`) {
		t.Errorf("the index lacks the page: %s", index)
	}
}

func TestClientsPageWithoutClients(t *testing.T) {
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho))
	if _, _, body := view(t, app, "/debug/clients", ""); !strings.Contains(body, `"clients": []`) {
		t.Errorf("the document is %s", body)
	}
	if _, _, page := view(t, app, "/debug/clients", "text/html"); !strings.Contains(page, "It has called no service yet.") {
		t.Errorf("the page is %s", page)
	}
}

func TestClientsPageIsGuarded(t *testing.T) {
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithSetting("server.admin.debug", "off"))
	if code, _, body := view(t, app, "/debug/clients", ""); code != http.StatusForbidden {
		t.Errorf("GET /debug/clients = %d %s", code, body)
	}
}
