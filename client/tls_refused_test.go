package client_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/health"
	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/middleware"
	"plinth.internal/registry"
	"plinth.internal/server"
)

// TestRefusedIsUnsent: with TLS 1.3 a client's certificate is refused after the
// request was written. The instance has not seen it, so the breaker has nothing to
// judge, and a request that must not happen twice is made elsewhere.
func TestRefusedIsUnsent(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "first"), tlstest.NewAuthority(t, "second")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	strict := tlstest.NewDir(t, t.TempDir(), b.PEM(), a.Issue(t, "echo"))
	files := &client.TLS{Mode: client.TLSMutual, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key}
	settings := client.WithSettings(func(string, string) client.Settings {
		s := client.DefaultSettings()
		s.TLS, s.Balancer = files, balancer.NameRoundRobin
		return s
	})
	refuse := &server.TLS{CertFile: strict.Cert, KeyFile: strict.Key, ClientCAFile: strict.CA}
	take := &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key, ClientCAFile: theirs.CA}

	t.Run("by all", func(t *testing.T) {
		w := newWorld(t, settings)
		w.guard(t, "a", refuse)
		for i := range 60 {
			_, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x"))
			if err == nil || !strings.Contains(err.Error(), "refuses the certificate in clients.echo.tls.cert_file") {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		if held := recorded[client.CallRejected](w.events); len(held) > 0 {
			t.Errorf("the breaker held %d requests back", len(held))
		}
	})
	t.Run("by one of three", func(t *testing.T) {
		w := newWorld(t, settings)
		w.guard(t, "a", refuse)
		g1, g2 := w.guard(t, "b", take), w.guard(t, "c", take)
		const requests = 60
		for i := range requests {
			if code, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x")); err != nil || code != http.StatusOK {
				t.Fatalf("request %d: %d, %v", i, code, err)
			}
			pause(t.Context(), 5*time.Millisecond) // so that the refusing one is tried again and again
		}
		if served := g1.served.Load() + g2.served.Load(); served != requests {
			t.Errorf("%d requests were served, want %d", served, requests)
		}
		if len(recorded[client.CallRetried](w.events)) == 0 {
			t.Error("the instance that refuses was never asked")
		}
	})
}

// TestRequestsFollowTLS: whatever changes in the settings counts for the next
// request over HTTP, however long the connections of those before would live. A
// request that is being answered ends as it began.
func TestRequestsFollowTLS(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "first"), tlstest.NewAuthority(t, "second")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	foreign := tlstest.NewDir(t, t.TempDir(), b.PEM(), b.Issue(t, "caller"))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	good := client.TLS{Mode: client.TLSMutual, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key}
	for name, tc := range map[string]struct {
		change func(*client.TLS)
		want   string
	}{
		"server_name": {func(c *client.TLS) { c.ServerName = "payments" }, "is for echo, not for payments"},
		"spiffe_id":   {func(c *client.TLS) { c.SPIFFEID = "spiffe://example.org/sa/pay" }, "not for spiffe://example.org/sa/pay"},
		"ca_file":     {func(c *client.TLS) { c.CAFile = foreign.CA }, "is signed by an authority that is not in"},
		"cert_file":   {func(c *client.TLS) { c.CertFile, c.KeyFile = foreign.Cert, foreign.Key }, "refuses the certificate in"},
		"mode":        {func(c *client.TLS) { c.Mode = client.TLSOn }, "wants a certificate of its callers"},
	} {
		t.Run(name, func(t *testing.T) {
			var now atomic.Pointer[client.TLS]
			now.Store(&good)
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings { return client.Settings{TLS: now.Load()} }))
			arrived, answer := make(chan struct{}), make(chan struct{})
			w.guardWith(t, &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key, ClientCAFile: theirs.CA}, func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					close(arrived)
					<-answer
				}
			})
			request := func(method string) error {
				_, _, err := text(t, w.client.HTTP("echo"), method, nil)
				return err
			}
			ended := make(chan error, 1)
			go func() { ended <- request(http.MethodPut) }()
			<-arrived
			if err := request(http.MethodGet); err != nil { // its connection waits for another
				t.Fatal(err)
			}
			other := good
			tc.change(&other)
			now.Store(&other)
			if err := request(http.MethodGet); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("after the change: %v, want %q", err, tc.want)
			}
			close(answer)
			if err := <-ended; err != nil {
				t.Errorf("the request that was in flight: %v", err)
			}
			now.Store(&good)
			eventually(t, "requests with what was before", func() bool { return request(http.MethodGet) == nil })
		})
	}
}

// guardWith runs and announces an instance whose handler for HTTP is given.
func (w *world) guardWith(t *testing.T, cfg *server.TLS, handle http.HandlerFunc) {
	t.Helper()
	s, err := server.New(server.Config{Service: "echo", Health: health.New(), TLS: cfg, Addrs: map[string]string{server.HTTP: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("/path", handle)
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Serve(func(err error) { t.Errorf("serve: %v", err) })
	t.Cleanup(func() { _ = s.Close() })
	w.announce(t, registry.Instance{ID: "a", Endpoints: s.Endpoints()})
}

// TestRefusedByOne: while others take the calls, and no call speaks of it, an
// instance that cannot be connected to is told of once, and explained.
func TestRefusedByOne(t *testing.T) {
	a := tlstest.NewAuthority(t, "first")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	wrong := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "payments"))
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		s := client.DefaultSettings()
		s.TLS, s.Balancer = &client.TLS{Mode: client.TLSOn, CAFile: ours.CA}, balancer.NameRoundRobin
		return s
	}))
	w.guard(t, "good", &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key})
	w.guard(t, "bad", &server.TLS{CertFile: wrong.Cert, KeyFile: wrong.Key})
	calls := func() {
		t.Helper()
		for range 20 {
			if _, err := call(t.Context(), w.conn(t), methodGet); err != nil {
				t.Errorf("gRPC: %v", err)
			}
			if _, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil); err != nil {
				t.Errorf("HTTP: %v", err)
			}
			pause(t.Context(), 20*time.Millisecond)
		}
	}
	calls()
	const sentence = "is for payments, not for echo"
	explained := 0
	for _, e := range w.explained(t).Instances {
		if c := e.Connection; e.ID == "good" {
			if c.TLS == nil || !*c.TLS || c.Peer != "echo" {
				t.Errorf("%s: the connection is %+v, want one with TLS to echo", e.Protocol, c)
			}
			continue
		} else if c.TLS != nil || c.Peer != "" {
			t.Errorf("%s: a connection that was never made is %+v", e.Protocol, c)
		}
		explained++
		if !strings.Contains(e.Connection.Error, sentence) || !strings.Contains(e.Why, sentence) {
			t.Errorf("%s: error %q, why %q", e.Protocol, e.Connection.Error, e.Why)
		}
	}
	if explained != 2 {
		t.Errorf("%d explanations, want those of gRPC and HTTP", explained)
	}
	told := map[string]int{}
	for _, e := range recorded[client.ConnectionFailed](w.events) {
		told[e.Protocol]++
		if e.Service != "echo" || e.Instance != "bad" || e.Addr == "" || !strings.Contains(e.Err.Error(), sentence) {
			t.Errorf("told is %+v", e)
		}
	}
	if told["grpc"] != 1 || told["http"] != 1 || len(told) != 2 {
		t.Errorf("told %v, want each protocol once", told)
	}
}

// TestPlainToTLS: a request without TLS to a port that speaks it is refused by
// nobody's handler: it is made elsewhere, or fails as what cannot be reached.
func TestPlainToTLS(t *testing.T) {
	a := tlstest.NewAuthority(t, "first")
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	for name, tls := range map[string]*client.TLS{"unsaid": nil, "insecure": {Mode: client.TLSInsecure}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
				s := client.DefaultSettings()
				s.TLS, s.Balancer = tls, balancer.NameRoundRobin
				return s
			}))
			w.guard(t, "strict", &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key})
			_, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x"))
			if err == nil || middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "speaks TLS only, and was called without: set clients.echo.tls.mode") {
				t.Errorf("nobody else there: %v", err)
			}
			const over = "was called without TLS and ended the connection without a word, as one does that wants TLS: then set clients.echo.tls.mode"
			if _, err := call(t.Context(), w.conn(t), methodPut); middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), over) {
				t.Errorf("nobody else there over gRPC: %v", err)
			}
			for _, e := range w.explained(t).Instances {
				if e.Protocol == "grpc" && !strings.Contains(e.Why, over) {
					t.Errorf("it is explained as %q", e.Why)
				}
			}
			w.guard(t, "plain", nil)
			eventually(t, "the other one is known", func() bool {
				code, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
				return err == nil && code == http.StatusOK
			})
			for range 20 {
				if code, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x")); err != nil || code != http.StatusOK {
					t.Errorf("with another one there: %d, %v", code, err)
				}
				pause(t.Context(), 20*time.Millisecond)
			}
		})
	}
}

// TestWantsTLSOfAHandler: the same words of a handler are its answer.
func TestWantsTLSOfAHandler(t *testing.T) {
	w := newWorld(t)
	w.guardWith(t, nil, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set(middleware.HeaderWantsTLS, "1") // as a proxy that passes it on would
		rw.WriteHeader(http.StatusBadRequest)
	})
	if code, _, err := text(t, w.client.HTTP("echo"), http.MethodPost, nil); err != nil || code != http.StatusBadRequest {
		t.Errorf("%d, %v; want 400", code, err)
	}
}

// TestConnectionWithoutTLS: that a connection has no TLS is explained, over every
// transport.
func TestConnectionWithoutTLS(t *testing.T) {
	w := newWorld(t)
	w.guard(t, "a", nil)
	connected(t, w.conn(t), 1)
	webConnected(t, w.client.HTTP("echo"), 1)
	for _, e := range w.explained(t).Instances {
		if c := e.Connection; c.TLS == nil || *c.TLS || c.Peer != "" {
			t.Errorf("%s: the connection is %+v, want one without TLS", e.Protocol, c)
		}
	}
}
