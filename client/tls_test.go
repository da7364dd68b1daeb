package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"plinth.internal/client"
	"plinth.internal/health"
	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/middleware"
	"plinth.internal/registry"
	"plinth.internal/server"
)

// guarded is an instance of "echo" over gRPC and HTTP with TLS.
type guarded struct {
	addrs  map[string]string
	served atomic.Int64
	mu     sync.Mutex
	seen   map[string]bool // serial numbers of callers' certificates, by protocol and number
}

func (g *guarded) note(protocol string, info credentials.TLSInfo) {
	g.served.Add(1)
	for _, c := range info.State.PeerCertificates[:min(1, len(info.State.PeerCertificates))] {
		g.mu.Lock()
		g.seen[protocol+" "+c.Issuer.CommonName] = true
		g.mu.Unlock()
	}
}

func (g *guarded) saw(what string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[what]
}

// guard runs and announces an instance. Its connections are made anew all the
// time, so that a test sees many handshakes.
func (w *world) guard(t *testing.T, id string, cfg *server.TLS) *guarded {
	t.Helper()
	g := &guarded{seen: map[string]bool{}}
	s, err := server.New(server.Config{
		Service: "echo", Health: health.New(), TLS: cfg,
		Addrs: map[string]string{server.GRPC: "127.0.0.1:0", server.HTTP: "127.0.0.1:0"},
		GRPCOptions: []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: 200 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second,
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{id: id}
	e.fail(func(ctx context.Context, _ string) error {
		info := credentials.TLSInfo{}
		if p, ok := peer.FromContext(ctx); ok {
			info, _ = p.AuthInfo.(credentials.TLSInfo)
		}
		g.note("grpc", info)
		return nil
	})
	s.RegisterService(&echoDesc, e)
	s.Handle("/path", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		info := credentials.TLSInfo{}
		if r.TLS != nil {
			info.State = *r.TLS
		}
		g.note("http", info)
		if g.served.Load()%5 == 0 {
			rw.Header().Set("Connection", "close")
		}
		_, _ = io.WriteString(rw, id)
	}))
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Serve(func(err error) { t.Errorf("serve: %v", err) })
	t.Cleanup(func() { _ = s.Close() })
	g.addrs = s.Endpoints()
	w.announce(t, registry.Instance{ID: id, Endpoints: g.addrs})
	return g
}

// withTLS are settings without retries, so that a lost call is seen.
func withTLS(tls *client.TLS) client.Option {
	return client.WithSettings(func(string, string) client.Settings {
		s := inTurn("", "")
		s.TLS = tls
		s.Retry.MaxAttempts = 1
		return s
	})
}

// TestRotationUnderLoad: certificates are renewed, then their authority is
// replaced, while calls are made over gRPC and HTTP that nobody repeats. None is
// lost, and in the end only the new authority counts on both sides.
func TestRotationUnderLoad(t *testing.T) {
	old, next := tlstest.NewAuthority(t, "old"), tlstest.NewAuthority(t, "next")
	ours := tlstest.NewDir(t, t.TempDir(), old.PEM(), old.Issue(t, "caller"))
	theirs := tlstest.NewDir(t, t.TempDir(), old.PEM(), old.Issue(t, "echo"))
	w := newWorld(t, withTLS(&client.TLS{Mode: client.TLSMutual, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key}))
	var instances []*guarded
	for _, id := range []string{"a", "b", "c"} {
		instances = append(instances, w.guard(t, id, &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key, ClientCAFile: theirs.CA}))
	}
	conn, web := w.conn(t), w.client.HTTP("echo")
	connected(t, conn, 1)

	var calls, lost atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	drive := func(one func() error) {
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					calls.Add(1)
					if err := one(); err != nil {
						lost.Add(1)
						t.Errorf("lost: %v", err)
						return
					}
				}
			})
		}
	}
	drive(func() error {
		_, err := call(context.Background(), conn, methodPut)
		return err
	})
	drive(func() error {
		status, _, err := text(t, web, http.MethodPost, strings.NewReader("x"))
		if err == nil && status != http.StatusOK {
			err = errors.New(http.StatusText(status))
		}
		return err
	})
	both := append(old.PEM(), next.PEM()...)
	for _, step := range []func(){
		func() { // the same authority
			ours.Write(t, old.PEM(), old.Issue(t, "caller"))
			theirs.Write(t, old.PEM(), old.Issue(t, "echo"))
		},
		func() { // half of a change that nobody finishes for now
			if err := os.WriteFile(ours.Key, []byte("half"), 0o600); err != nil {
				t.Error(err)
			}
		},
		func() { // both authorities count, before certificates of the new one come
			ours.Write(t, both, old.Issue(t, "caller"))
			theirs.Write(t, both, old.Issue(t, "echo"))
		},
		func() {
			ours.Write(t, both, next.Issue(t, "caller"))
			theirs.Write(t, both, next.Issue(t, "echo"))
		},
		func() { // the old one counts no more
			ours.Write(t, next.PEM(), next.Issue(t, "caller"))
			theirs.Write(t, next.PEM(), next.Issue(t, "echo"))
		},
	} {
		step()
		pause(ctx, time.Second) // a change is in use after that
	}
	for _, g := range instances {
		eventually(t, "callers of the new authority over both transports", func() bool {
			return g.saw("grpc next") && g.saw("http next")
		})
	}
	stop()
	wg.Wait()
	t.Logf("%d calls, %d lost", calls.Load(), lost.Load())
	if calls.Load() < 500 {
		t.Errorf("only %d calls", calls.Load())
	}
	if status := w.client.TLSStatus(); len(status) != 1 || status[0].Err != nil || status[0].Services[0] != "echo" || status[0].NotAfter.IsZero() {
		t.Errorf("TLSStatus = %+v", status)
	}
	if bad, good := recorded[client.TLSRejected](w.events), recorded[client.TLSReloaded](w.events); len(bad) != 1 || len(good) < 4 || bad[0].Err == nil {
		t.Errorf("%d files were rejected and %d reloaded, want 1 and at least 4: %+v", len(bad), len(good), bad)
	}
}

// TestTLSRefused: who is refused, and that the caller learns why, over gRPC and
// over HTTP alike.
func TestTLSRefused(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "first"), tlstest.NewAuthority(t, "second")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	foreign := tlstest.NewDir(t, t.TempDir(), b.PEM(), b.Issue(t, "caller"))
	outdated := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller", tlstest.Expired()))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	svid := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "", tlstest.ID("spiffe://example.org/ns/prod/echo")))
	soon := time.Now().Add(2 * time.Second).Truncate(time.Second)
	brief := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo", tlstest.Until(soon)))
	mutual := func(d tlstest.Dir) *server.TLS {
		return &server.TLS{CertFile: d.Cert, KeyFile: d.Key, ClientCAFile: d.CA}
	}
	one := func(d tlstest.Dir) *server.TLS { return &server.TLS{CertFile: d.Cert, KeyFile: d.Key} }
	with := func(change func(*client.TLS)) *client.TLS {
		c := &client.TLS{Mode: client.TLSMutual, CAFile: ours.CA, CertFile: ours.Cert, KeyFile: ours.Key}
		change(c)
		return c
	}
	for _, tc := range []struct {
		name   string
		server *server.TLS
		client *client.TLS
		want   []string // nil = no error
	}{
		{"good", mutual(theirs), with(func(*client.TLS) {}), nil},
		{"one side", one(theirs), &client.TLS{Mode: client.TLSOn, CAFile: ours.CA}, nil},
		{"name with the service in it", one(theirs), &client.TLS{Mode: client.TLSOn, CAFile: ours.CA, ServerName: "{service}"}, nil},
		{"SPIFFE ID", mutual(svid), with(func(c *client.TLS) { c.SPIFFEID = "spiffe://example.org/ns/prod/{service}" }), nil},
		{"SPIFFE prefix", mutual(svid), with(func(c *client.TLS) { c.SPIFFEID = "spiffe://example.org/ns/prod/*" }), nil},
		{"wrong name", mutual(theirs), with(func(c *client.TLS) { c.ServerName = "billing" }), []string{"the certificate of echo at 127.0.0.1:", "is for echo, not for billing", "clients.echo.tls.server_name"}},
		{"wrong authority", mutual(theirs), with(func(c *client.TLS) { c.CAFile = foreign.CA }), []string{"issued by CN=first, is signed by an authority that is not in clients.echo.tls.ca_file (" + foreign.CA + ")"}},
		{"wrong authority of a SPIFFE ID", mutual(svid), with(func(c *client.TLS) { c.CAFile, c.SPIFFEID = foreign.CA, "spiffe://example.org/*" }), []string{"issued by CN=first, is signed by an authority that is not in"}},
		{"system's authorities", one(theirs), &client.TLS{Mode: client.TLSOn}, []string{"is not in this system's roots", "clients.echo.tls.ca_file"}},
		{"expired", one(brief), &client.TLS{Mode: client.TLSOn, CAFile: ours.CA}, []string{"the certificate of echo at", "has expired at", "server.tls.cert_file"}},
		{"wrong SPIFFE ID", mutual(svid), with(func(c *client.TLS) { c.SPIFFEID = "spiffe://example.org/ns/dev/*" }), []string{"is for spiffe://example.org/ns/prod/echo, not for spiffe://example.org/ns/dev/*", "clients.echo.tls.spiffe_id"}},
		{"no SPIFFE ID", mutual(theirs), with(func(c *client.TLS) { c.SPIFFEID = "spiffe://example.org/echo" }), []string{"is for nobody, not for spiffe://example.org/echo"}},
		{"no certificate of ours", mutual(theirs), &client.TLS{Mode: client.TLSOn, CAFile: ours.CA}, []string{"wants a certificate of its callers, and was given none", "set clients.echo.tls.mode to mtls"}},
		{"ours of another authority", mutual(theirs), with(func(c *client.TLS) { c.CertFile, c.KeyFile = foreign.Cert, foreign.Key }), []string{"refuses the certificate in clients.echo.tls.cert_file (" + foreign.Cert + ")", "server.tls.client_ca_file"}},
		{"ours expired", mutual(theirs), with(func(c *client.TLS) { c.CertFile, c.KeyFile = outdated.Cert, outdated.Key }), []string{"refuses the certificate in clients.echo.tls.cert_file (" + outdated.Cert + ")", "expired"}},
		{"no TLS there", nil, &client.TLS{Mode: client.TLSOn, CAFile: ours.CA}, []string{"does not speak TLS", "set clients.echo.tls.mode to insecure"}},
		{"no such file", mutual(theirs), with(func(c *client.TLS) { c.CAFile += "x" }), []string{"clients.echo.tls", "ca.pemx: no such file"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, withTLS(tc.client))
			w.guard(t, "a", tc.server)
			if tc.name == "expired" {
				pause(t.Context(), time.Until(soon.Add(time.Second)))
			}
			_, overGRPC := call(t.Context(), w.conn(t), methodPut)
			code, _, overHTTP := text(t, w.client.HTTP("echo"), http.MethodPost, strings.NewReader("x"))
			if tc.want == nil {
				if overGRPC != nil || overHTTP != nil || code != http.StatusOK {
					t.Errorf("gRPC: %v; HTTP: %d, %v", overGRPC, code, overHTTP)
				}
				return
			}
			for protocol, err := range map[string]error{"gRPC": overGRPC, "HTTP": overHTTP} {
				if err == nil || middleware.Code(err) != codes.Unavailable {
					t.Errorf("%s: err = %v, want UNAVAILABLE", protocol, err)
					continue
				}
				for _, want := range tc.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %q does not say %q", protocol, err, want)
					}
				}
			}
		})
	}
}

// elsewhere is a connection that says it leads to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9000} }

// TestInsecureIsSaid: connections to other machines are made without TLS only if
// somebody said so; over every transport.
func TestInsecureIsSaid(t *testing.T) {
	for _, tc := range []struct {
		name string
		tls  *client.TLS
		ok   bool
	}{
		{"nothing said", nil, false},
		{"empty", &client.TLS{}, false},
		{"insecure", &client.TLS{Mode: client.TLSInsecure}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d net.Dialer
			w := newWorld(t, withTLS(tc.tls), client.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := d.DialContext(ctx, "tcp", addr)
				return elsewhere{conn}, err
			}))
			w.guard(t, "a", nil)
			hello := newRPCServer(t, "r", "127.0.0.1:0")
			w.announce(t, registry.Instance{ID: "r", Service: "hello", Endpoints: map[string]string{"netrpc": hello.addr}})
			_, overGRPC := call(t.Context(), w.conn(t), methodPut)
			_, _, overHTTP := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
			caller, err := w.client.NetRPC("hello")
			if err != nil {
				t.Fatal(err)
			}
			overRPC := caller.Call(t.Context(), say, "x", new(string))
			for protocol, err := range map[string]error{"gRPC": overGRPC, "HTTP": overHTTP, "net/rpc": overRPC} {
				if tc.ok && err != nil || !tc.ok && (err == nil || !strings.Contains(err.Error(), "nothing says how connections to other machines are protected") || !strings.Contains(err.Error(), "client.Settings.TLS in code")) {
					t.Errorf("%s: %v", protocol, err)
				}
			}
		})
	}
}

// TestNetRPCWithTLS: what the settings say holds for net/rpc as well.
func TestNetRPCWithTLS(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	w := newWorld(t, withTLS(&client.TLS{Mode: client.TLSOn, CAFile: ours.CA}))
	hello := newRPCServer(t, "r", "127.0.0.1:0")
	w.announce(t, registry.Instance{ID: "r", Service: "hello", Endpoints: map[string]string{"netrpc": hello.addr}})
	caller, err := w.client.NetRPC("hello")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = caller.Call(ctx, say, "x", new(string))
	if answer, ok := errors.AsType[rpc.ServerError](err); err == nil || ok {
		t.Errorf("a server without TLS answered: %v", answer)
	}
}

// TestFilesThatWereNeverGood: settings that name files which cannot be used leave
// in use what was.
func TestFilesThatWereNeverGood(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	ours := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "caller"))
	theirs := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "echo"))
	var settings atomic.Pointer[client.TLS]
	settings.Store(&client.TLS{Mode: client.TLSOn, CAFile: ours.CA})
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings { return client.Settings{TLS: settings.Load()} }))
	g := w.guard(t, "a", &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key})
	connected(t, w.conn(t), 1)
	settings.Store(&client.TLS{Mode: client.TLSOn, CAFile: ours.CA + "x"})
	for before := g.served.Load(); g.served.Load() < before+20; {
		if _, err := call(t.Context(), w.conn(t), methodGet); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), 20*time.Millisecond) // connections live for 200 ms
	}
	status := w.client.TLSStatus()
	if len(status) != 2 || status[0].Err != nil || status[1].Err == nil {
		t.Errorf("TLSStatus = %+v, want the old files and the new ones with an error", status)
	}
	eventually(t, "the rejection is told", func() bool { return len(recorded[client.TLSRejected](w.events)) > 0 })
	if e := recorded[client.TLSRejected](w.events)[0]; !e.Kept {
		t.Errorf("%+v does not say that others stay in use", e)
	}

	w = newWorld(t, withTLS(&client.TLS{Mode: client.TLSOn, CAFile: ours.CA + "x"}))
	w.guard(t, "a", &server.TLS{CertFile: theirs.Cert, KeyFile: theirs.Key})
	if _, err := call(t.Context(), w.conn(t), methodGet); err == nil {
		t.Error("a call without any good files succeeds")
	}
	eventually(t, "the rejection is told", func() bool { return len(recorded[client.TLSRejected](w.events)) > 0 })
	if e := recorded[client.TLSRejected](w.events)[0]; e.Kept {
		t.Errorf("%+v says that others stay in use", e)
	}
}

func TestValidateTLS(t *testing.T) {
	for _, tc := range []struct {
		tls  *client.TLS
		want string // "" = good
	}{
		{nil, ""},
		{&client.TLS{}, ""},
		{&client.TLS{Mode: "insecure", CAFile: "ca.pem"}, ""},
		{&client.TLS{CAFile: "ca.pem"}, "without a Mode"},
		{&client.TLS{Mode: "on"}, `"on": must be one of insecure, tls, mtls`},
		{&client.TLS{Mode: "mtls", CertFile: "c.pem"}, "needs CertFile and KeyFile"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/a/b-c.D_1"}, ""},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/*"}, ""},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/{service}/*"}, ""},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://{service}.org/a"}, ""},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/a*"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/a//b"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://example.org/../b"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe://Example.org/b"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "https://example.org/b"}, "must be like"},
		{&client.TLS{Mode: "tls", SPIFFEID: "spiffe:///*"}, "must be like"},
	} {
		err := client.Settings{TLS: tc.tls}.Validate()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: err = %v, want %q", tc.tls, err, tc.want)
		}
	}
}
