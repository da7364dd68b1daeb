package framework_test

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// startVersion runs an instance of the service "echo" that answers with its
// version.
func startVersion(t *testing.T, env *frameworktest.Env, version string) {
	t.Helper()
	f := newFile(t, "service: {version: \""+version+"\"}\n")
	answer := func(context.Context, string) (string, error) { return version, nil }
	env.Start("echo", setupEcho(echo{answer}), framework.WithConfigFile(f.path))
}

// TestRoutesReload changes the rules in the file of a running service: the calls
// follow within a second, a bad document changes nothing, and the admin pages and
// metrics tell.
func TestRoutesReload(t *testing.T) {
	env := frameworktest.New(t)
	startVersion(t, env, "1.3.0")
	startVersion(t, env, "1.4.0")
	rule := func(match, to string) string {
		return "clients: {echo: {routes: {canary: {match: " + match + ", to: {version: \"" + to + "\"}}}}}\n"
	}
	f := newFile(t, "")
	var conn *grpc.ClientConn
	app := env.Start("front", func(_ context.Context, s *framework.Service) (err error) {
		conn, err = s.Client("echo")
		return err
	}, framework.WithConfigFile(f.path))
	// calls makes some calls, and returns how many went to the new version.
	calls := func(n int) (canary int) {
		t.Helper()
		for range n {
			answer, err := say(t.Context(), conn, "x")
			if err != nil {
				t.Fatal(err)
			}
			if answer == "1.4.0" {
				canary++
			}
		}
		return canary
	}
	within(t, 10*inTime, "calls to both", func() bool { n := calls(20); return n > 0 && n < 20 })

	f.write(rule("{percent: 0}", "1.4.0"))
	t.Log("0 % after", within(t, inTime, "0 %", func() bool { return calls(20) == 0 }))
	f.write(rule("{percent: 100}", "1.4.0"))
	t.Log("100 % after", within(t, inTime, "100 %", func() bool { return calls(20) == 20 }))
	f.write(rule("{percent: 200}", "1.4.0"))
	within(t, inTime, "the bad document", func() bool { status, _ := configCheck(app); return status == framework.HealthDegraded })
	if got := calls(20); got != 20 {
		t.Errorf("with a document that is refused %d of 20 calls go to the canary", got)
	}
	f.write(rule("{percent: 5}", "1.4.0"))
	t.Log("5 % after", within(t, inTime, "5 %", func() bool { return calls(20) < 10 }))
	const many = 20_000
	if got := 100 * float64(calls(many)) / many; math.Abs(got-5) > 1 {
		t.Errorf("%.2f %% of %d calls went to the canary", got, many)
	} else {
		t.Logf("%.2f %% of %d calls went to the canary", got, many)
	}

	_, _, body := view(t, app, "/debug/clients", "application/json")
	var doc framework.ClientsDocument
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	routes := doc.Clients[0].Protocols[0].Routes
	if len(routes) != 2 || routes[0].Name != "canary" || math.Abs(100*routes[0].Share-5) > 1 || routes[0].Instances != 1 {
		t.Errorf("the page has the routes %+v", routes)
	}
	_, _, page := view(t, app, "/debug/clients", "text/html")
	for _, want := range []string{"Routes over grpc", "5 % of calls go to 1 of the 1 with version 1.4.0", "; reserved for route canary"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}

	f.write(rule("{percent: 100}", "1.5.0"))
	within(t, inTime, "the fallback in the metrics", func() bool {
		calls(1)
		_, metrics := ask(t, app, http.MethodGet, "/metrics", "")
		return strings.Contains(metrics, `plinth_client_route_fallbacks_total{outcome="elsewhere",route="canary",service="echo"}`)
	})
}

// TestMetadataIsRegistered: what the configuration says of an instance is in the
// registry, for rules of those who call it, and the framework's own is kept.
func TestMetadataIsRegistered(t *testing.T) {
	env := frameworktest.New(t)
	f := newFile(t, "service: {metadata: {track: canary, framework: mine}}\n")
	env.Start("echo", setupEcho(echo{}), framework.WithConfigFile(f.path))
	list := env.Registry().Instances("echo")
	if len(list) != 1 || list[0].Metadata["track"] != "canary" || list[0].Metadata["framework"] == "mine" {
		t.Errorf("registered are %+v", list)
	}
}
