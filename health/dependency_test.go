package health_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"plinth.internal/health"
)

// addRemote adds a check of another service and returns its result after one
// run.
func addRemote(t *testing.T, r health.Remote, opts ...health.CheckOption) (*health.Health, health.Result) {
	t.Helper()
	h := health.New()
	h.SetPhase(health.Serving)
	if err := h.AddDependency("other", r, opts...); err != nil {
		t.Fatal(err)
	}
	_ = h.Check(t.Context())
	return h, result(t, h, "other")
}

// TestNoCascade: a service whose dependencies are all gone is ready, and says
// so; it is not where somebody wants that.
func TestNoCascade(t *testing.T) {
	gone := health.HTTP(&http.Client{Transport: failing{}}, "http://billing/ping")
	h, r := addRemote(t, gone)
	if !h.Ready() || r.Critical || !r.Dependency || r.Status != health.StatusDown {
		t.Errorf("ready %v, %+v", h.Ready(), r)
	}
	if h, r := addRemote(t, gone, health.Critical()); h.Ready() || !r.Critical || !r.Dependency {
		t.Errorf("ready %v, %+v, although it is critical", h.Ready(), r)
	}
	h = health.New()
	h.SetPhase(health.Serving)
	add(t, h, "legacy", func(context.Context) error { return errors.New("gone") }, health.Dependency())
	if err := h.Check(t.Context()); err != nil || !h.Ready() || !result(t, h, "legacy").Dependency {
		t.Errorf("%v, ready %v", err, h.Ready())
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no instance of billing is known")
}

func TestGRPCDependency(t *testing.T) {
	other := health.New()
	other.Serve("billing.v1.Billing")
	conn := func(register bool) *grpc.ClientConn {
		lis := bufconn.Listen(1 << 16)
		s := grpc.NewServer()
		if register {
			healthpb.RegisterHealthServer(s, other.GRPC())
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Serve(lis) })
		cc, err := grpc.NewClient("passthrough:///billing", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close(); s.Stop(); wg.Wait() })
		return cc
	}
	with, without := conn(true), conn(false)
	closed := conn(true)
	closed.Close()
	for _, tc := range []struct {
		name    string
		phase   health.Phase
		conn    *grpc.ClientConn
		service string
		want    []string // in the error, none for ok
	}{
		{"serves", health.Serving, with, "", nil},
		{"one service", health.Serving, with, "billing.v1.Billing", nil},
		{"drains", health.Draining, with, "", []string{"ask passthrough:///billing for its health", "NOT_SERVING"}},
		{"one service drains", health.Draining, with, "billing.v1.Billing", []string{`the health of "billing.v1.Billing"`, "NOT_SERVING"}},
		{"unknown", health.Serving, with, "billing.v2.Billing", []string{`"billing.v2.Billing"`, "NotFound"}},
		{"no health service", health.Serving, without, "", []string{"it has no service grpc.health.v1.Health"}},
		{"unreachable", health.Serving, closed, "", []string{"ask passthrough:///billing", "Canceled"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			other.SetPhase(tc.phase)
			_, r := addRemote(t, health.GRPC(tc.conn, tc.service))
			checkError(t, r, tc.want)
		})
	}
}

// checkError holds that a result is ok, or down with all of want in its error.
func checkError(t *testing.T, r health.Result, want []string) {
	t.Helper()
	if (r.Status == health.StatusOK) != (len(want) == 0) {
		t.Errorf("%+v", r)
	}
	for _, w := range want {
		if !strings.Contains(r.Error, w) {
			t.Errorf("error %q does not say %q", r.Error, w)
		}
	}
}

func TestHTTPDependency(t *testing.T) {
	var conns atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") })
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/sick", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "no shard\nis left", strings.Repeat("x", 1<<20))
	})
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	for _, tc := range []struct {
		path string
		want []string // in the error, none for ok
	}{
		{"/ok", nil},
		{"/empty", nil},
		{"/moved?token=hush", nil},
		{"/sick?token=hush", []string{"get " + srv.URL + "/sick: 503 Service Unavailable: \"no shard\\nis left"}},
		{"/none", []string{"404 Not Found"}},
		{"/hangs?token=hush", []string{"no answer within 100ms"}},
	} {
		timeout := 30 * time.Second
		if strings.HasPrefix(tc.path, "/hangs") {
			timeout = 100 * time.Millisecond
		}
		_, r := addRemote(t, health.HTTP(srv.Client(), srv.URL+tc.path), health.Timeout(timeout))
		checkError(t, r, tc.want)
		if strings.Contains(r.Error, "hush") || len(r.Error) > 500 {
			t.Errorf("%s: the error says too much: %.600s", tc.path, r.Error)
		}
	}
	before := conns.Load()
	for range 20 {
		_, r := addRemote(t, health.HTTP(srv.Client(), srv.URL+"/ok"), health.Timeout(10*time.Second))
		checkError(t, r, nil)
	}
	if n := conns.Load() - before; n > 1 {
		t.Errorf("%d connections for 20 checks", n)
	}
	srv.Close()
	_, r := addRemote(t, health.HTTP(srv.Client(), "http://user:hush@"+srv.Listener.Addr().String()+"/ok"))
	checkError(t, r, []string{"get http://" + srv.Listener.Addr().String() + "/ok: ", "refused"})
	if strings.Contains(r.Error, "hush") {
		t.Errorf("the error shows the password: %s", r.Error)
	}
}

func TestRemoteThatCannotWork(t *testing.T) {
	for name, tc := range map[string]struct {
		remote health.Remote
		want   string
	}{
		"none":      {health.Remote{}, "it needs a name and a function"},
		"no conn":   {health.GRPC(nil, ""), "the gRPC connection is nil"},
		"no client": {health.HTTP(nil, "http://x/"), "the HTTP client is nil"},
		"no scheme": {health.HTTP(&http.Client{}, "billing/ping"), "not of the form http://host/path"},
		"no host":   {health.HTTP(&http.Client{}, "http:///ping"), "not of the form http://host/path"},
		"ftp":       {health.HTTP(&http.Client{}, "ftp://x/"), "not of the form http://host/path"},
		"no URL":    {health.HTTP(&http.Client{}, "http://a b:hush@x/"), "parse the address to get: "},
	} {
		err := health.New().AddDependency("other", tc.remote)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
