package pscmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/registry"
)

// objects reads the lines of --json.
func objects(t *testing.T, out string) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(out) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		list = append(list, o)
	}
	return list
}

func TestList(t *testing.T) {
	w := newWorld(t)
	app := w.app("orders")
	serving, notServing := healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	inst := func(id string) registry.Instance { return registry.Instance{ID: id, Service: "billing"} }
	w.announce(inst("b-serving"), "grpc="+grpcServer(t, &serving))
	w.announce(inst("b-down"), "grpc="+grpcServer(t, &notServing))
	w.announce(inst("b-mute"), "grpc="+grpcServer(t, nil))
	w.announce(inst("b-refused"), "grpc="+closedAddr(t))
	for _, id := range []string{"b-silent1", "b-silent2", "b-silent3"} {
		w.announce(inst(id), "grpc="+silentAddr(t))
	}
	w.announce(inst("b-http"), "http=127.0.0.1:1")
	w.announce(inst("b-moved"), "admin="+app.Endpoints()["admin"])
	// The admin listener is for this machine only; gRPC is not.
	w.announce(inst("b-hidden"), "grpc="+grpcServer(t, &serving), "admin="+closedAddr(t))
	w.announce(registry.Instance{ID: "s-1", Service: "search", Version: "2\x1b[31m\n", State: registry.Draining, Weight: 7, Started: time.Now().Add(-3 * time.Hour)}, "grpc=127.0.0.1:1")
	w.put("/plinth/services/search/broken", "garbage")
	w.put("/plinth/operator/search/dead-1", `{"weight":3}`)

	begun := time.Now()
	out, errOut, err := ps(t, "--json")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took >= 3*probeTimeout {
		t.Errorf("it took %v with three silent instances: they are not asked at once", took)
	}
	if errOut != "" {
		t.Errorf("stderr: %s", errOut)
	}
	lines := objects(t, out)
	got := map[string]string{}
	for _, o := range lines {
		if o["type"] == "instance" {
			got[o["id"].(string)] = o["health"].(string)
			if wordless := slices.Contains([]string{"ok", "degraded", "down"}, o["health"].(string)); wordless == (o["error"] != nil) {
				t.Errorf("%s: health %s, error %v", o["id"], o["health"], o["error"])
			}
		}
	}
	want := map[string]string{
		app.Instance().ID: "ok", "b-serving": "ok", "b-down": "down", "b-mute": "unknown", "b-refused": "unreachable", "b-silent1": "unreachable", "b-silent2": "unreachable", "b-silent3": "unreachable",
		"b-http": "unknown", "b-moved": "other", "b-hidden": "ok", "s-1": "unreachable",
	}
	if !maps.Equal(got, want) {
		t.Errorf("health\n%v, want\n%v", got, want)
	}
	var skipped []string
	for _, o := range lines {
		if o["type"] == "skipped" {
			skipped = append(skipped, o["key"].(string)+" "+o["error"].(string))
		}
	}
	if len(skipped) != 2 || !strings.HasPrefix(skipped[0], "/plinth/services/search/broken decode") || !strings.HasPrefix(skipped[1], "search/dead-1 ") ||
		!strings.HasSuffix(skipped[1], "scaffold undrain search/dead-1") {
		t.Errorf("skipped %q", skipped)
	}
	if last, want := lines[len(lines)-1], (map[string]any{"type": "result", "ok": true, "instances": 12.0, "skipped": 2.0}); !maps.Equal(last, want) {
		t.Errorf("last line %v, want %v", last, want)
	}

	out, _, err = ps(t, "orders", "--json")
	if err != nil {
		t.Fatal(err)
	}
	if lines = objects(t, out); len(lines) != 2 {
		t.Fatalf("ps orders: %v", lines)
	}
	for field, want := range map[string]any{
		"service": "orders", "version": "1.4.0", "zone": "z1", "state": "up", "weight": 100.0, "health": "ok", "registry": "registered",
	} {
		if lines[0][field] != want {
			t.Errorf("ps orders: %s is %v, want %v", field, lines[0][field], want)
		}
	}

	out, _, err = ps(t, "search")
	if err != nil {
		t.Fatal(err)
	}
	pattern := `^SERVICE +ID +VERSION +ZONE +STATE +WEIGHT +AGE +HEALTH +ADDRESS
search +s-1 +2\?\[31m\? +- +draining +7 +3h +unreachable +127\.0\.0\.1:1

In the registry, but not instances:
  /plinth/services/search/broken: decode instance: .*
  search/dead-1: an override of an instance that is gone, .*
$`
	if !regexp.MustCompile(pattern).MatchString(out) {
		t.Errorf("ps search:\n%s\nwant\n%s", out, pattern)
	}
}

func TestOverridesAreMarked(t *testing.T) {
	up, draining := registry.Instance{State: registry.Up, Weight: 100}, registry.Instance{State: registry.Draining, Weight: 50}
	for _, tt := range []struct {
		inst          registry.Instance
		override      registry.Override
		state, weight string
	}{
		{up, registry.Override{}, "up", "100"},
		{draining, registry.Override{}, "draining", "50"},
		{draining, registry.Override{State: registry.Draining, Weight: 50}, "draining (operator)", "50 (operator)"},
		{up, registry.Override{State: registry.Draining, Weight: 50}, "up (operator: draining)", "100 (operator: 50)"},
		{up, registry.Override{State: registry.Up}, "up", "100"},
	} {
		r := row{inst: tt.inst, override: tt.override}
		if r.state() != tt.state || r.weight() != tt.weight {
			t.Errorf("%+v with %+v: %q, %q, want %q, %q", tt.inst, tt.override, r.state(), r.weight(), tt.state, tt.weight)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		started time.Time
		want    string
	}{
		{time.Time{}, "-"},
		{now.Add(time.Minute), "0s"},
		{now, "0s"},
		{now.Add(-119 * time.Second), "119s"},
		{now.Add(-2 * time.Minute), "2m"},
		{now.Add(-2 * time.Hour), "2h"},
		{now.Add(-49 * time.Hour), "2d"},
	} {
		if got := age(now, tt.started); got != tt.want {
			t.Errorf("age of %v: %s, want %s", now.Sub(tt.started), got, tt.want)
		}
	}
}

func TestAdminAnswers(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"degraded":            {`{"status":"degraded","instance":"i","registry":{"state":"lost"}}`, "degraded (lost)"},
		"down":                {`{"status":"down","instance":"i","registry":{"state":"withdrawn"}}`, "down (withdrawn)"},
		"no instance":         {`{"status":"ok"}`, "ok"},
		"not ours":            {`{"status":"UP"}`, "unknown"},
		"no JSON":             {`<html>`, "unknown"},
		"without end":         {`{"status":"` + strings.Repeat("x", 2*maxHealth), "unknown"},
		"a terminal's escape": {`{"status":"ok","registry":{"state":"\u001b[2J"}}`, "ok (?[2J)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer s.Close()
			got := probe(t.Context(), registry.Instance{ID: "i", Endpoints: map[string]string{"admin": s.Listener.Addr().String()}})
			if got.String() != tt.want {
				t.Errorf("health %q (%v), want %q", got, got.err, tt.want)
			}
		})
	}
}

func TestUnknownService(t *testing.T) {
	w := newWorld(t)
	w.announce(registry.Instance{ID: "b-1", Service: "billing"}, "http=127.0.0.1:1")
	out, errOut, err := ps(t, "biling")
	if err != nil || !strings.HasPrefix(out, "SERVICE ") || strings.Count(out, "\n") != 1 {
		t.Errorf("ps of a service that is not there: %v\n%s", err, out)
	}
	if want := "note: no instance of biling; there are billing\n"; errOut != want {
		t.Errorf("stderr %q, want %q", errOut, want)
	}
	w.t.Setenv(access.EnvNamespace, "/elsewhere")
	if out, _, err := ps(t, "--json"); err != nil || out != `{"type":"result","ok":true,"instances":0,"skipped":0}`+"\n" {
		t.Errorf("ps of an empty namespace: %v\n%s", err, out)
	}
	if out, _, err := ps(t, "--json", "--namespace", "/plinth/"); err != nil || !strings.Contains(out, `"instances":1`) {
		t.Errorf("--namespace does not win over its variable: %v\n%s", err, out)
	}
}

func TestErrors(t *testing.T) {
	for _, name := range []string{access.EnvEndpoints, access.EnvNamespace, access.EnvUser, access.EnvPassword} {
		t.Setenv(name, "")
	}
	refused, silent := closedAddr(t), silentAddr(t)
	for _, tt := range []struct {
		name string
		args []string
		code string
		exit int
		says string
	}{
		{"no endpoints", nil, "no_endpoints", ui.ExitUsage, ""},
		{"two services", []string{"a", "b"}, "usage", ui.ExitUsage, ""},
		{"nobody listens", []string{"--endpoints", refused}, "etcd_unreachable", 0, refused},
		{"no answer", []string{"orders", "--endpoints", silent, "--watch"}, "etcd_unreachable", 0, silent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begun := time.Now()
			out, _, err := ps(t, tt.args...)
			e, ok := errors.AsType[*ui.Error](err)
			if !ok || e.Code != tt.code || e.Exit != tt.exit || !strings.Contains(e.Message, tt.says) {
				t.Errorf("error %#v, want code %s", err, tt.code)
			}
			if out != "" {
				t.Errorf("stdout: %s", out)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	w := newWorld(t)
	w.announce(registry.Instance{ID: "b-1", Service: "billing"}, "http=127.0.0.1:1")
	for _, args := range [][]string{{"--watch"}, {"--watch", "--json"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			var out stream
			var errOut bytes.Buffer
			done := make(chan error, 1)
			go func() { done <- execute(ctx, &out, &errOut, args...) }()
			out.await(t, "second look", func(s string) bool { return strings.Count(s, "b-1") >= 2 })
			interrupt()
			if err := <-done; err != nil {
				t.Errorf("interrupted: %v", err)
			}
			if strings.Contains(out.String(), "\x1b") {
				t.Errorf("control sequences in what is no terminal:\n%q", out.String())
			}
			if len(args) > 1 {
				var types []string
				for _, o := range objects(t, out.String()) {
					types = append(types, o["type"].(string))
				}
				if got := strings.Join(types[:4], " "); got != "instance looked instance looked" || types[len(types)-1] != "result" {
					t.Errorf("lines %q", types)
				}
			}
		})
	}
}

// TestWatchSurvivesEtcd stops etcd under a watch, which is when it is needed.
func TestWatchSurvivesEtcd(t *testing.T) {
	w := newWorld(t)
	w.announce(registry.Instance{ID: "b-1", Service: "billing"}, "http=127.0.0.1:1")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out stream
	done := make(chan error, 1)
	go func() { done <- execute(ctx, &out, &stream{}, "--watch") }()
	out.await(t, "list", func(s string) bool { return strings.Contains(s, "b-1") })
	w.etcd.Close()
	out.await(t, "list of before and why it is no newer", func(s string) bool {
		_, after, ok := strings.Cut(s, "no newer list: ")
		return ok && strings.Contains(after, "b-1")
	})
	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFrame(t *testing.T) {
	l := list{at: time.Date(2026, 11, 21, 10, 32, 5, 0, time.Local)}
	if got := l.frame(nil, true); !strings.HasPrefix(got, "\x1b[H\x1b[2J10:32:05\nSERVICE ") {
		t.Errorf("on a terminal: %q", got)
	}
	if got := l.frame(errors.New("no\x1b[2J"), false); !strings.HasPrefix(got, "10:32:05\nno newer list: no?[2J\nSERVICE ") || !strings.HasSuffix(got, "\n") {
		t.Errorf("elsewhere: %q", got)
	}
}

func TestEach(t *testing.T) {
	const n, limit = 50, 7
	var done [n]bool
	slots := make(chan struct{}, limit)
	each(n, limit, func(i int) {
		select {
		case slots <- struct{}{}:
		default:
			t.Errorf("more than %d at a time", limit)
			return
		}
		done[i] = true
		<-slots
	})
	if slices.Contains(done[:], false) {
		t.Errorf("done %v", done)
	}
}

func TestAddress(t *testing.T) {
	for want, endpoints := range map[string]map[string]string{
		"g:1": {"admin": "a:1", "grpc": "g:1", "http": "h:1"},
		"h:1": {"admin": "a:1", "http": "h:1"},
		"a:1": {"netrpc": "n:1", "admin": "a:1"},
		"":    nil,
	} {
		if got := address(registry.Instance{Endpoints: endpoints}); got != want {
			t.Errorf("address of %v = %q, want %q", endpoints, got, want)
		}
	}
}
