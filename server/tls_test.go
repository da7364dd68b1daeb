package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/server"
)

// tlsEvents keeps what a server tells of its TLS.
type tlsEvents struct {
	mu  sync.Mutex
	all []server.TLSEvent
}

func (r *tlsEvents) add(e server.TLSEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
}

func (r *tlsEvents) find(ok func(server.TLSEvent) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all, ok)
}

func soon(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// tlsServer serves "orders" with the files of a directory.
func tlsServer(t *testing.T, d tlstest.Dir, change func(*server.TLS)) (*server.Server, map[string]string, *tlsEvents) {
	t.Helper()
	events := &tlsEvents{}
	cfg := loopback()
	cfg.TLS = &server.TLS{CertFile: d.Cert, KeyFile: d.Key, ClientCAFile: d.CA, Events: events.add}
	if change != nil {
		change(cfg.TLS)
	}
	s, endpoints := serve(t, cfg, func(s *server.Server) {
		s.RegisterService(&waiterDesc, waiterFunc(func(ctx context.Context) error {
			if p, ok := peer.FromContext(ctx); ok {
				if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
					return nil
				}
			}
			return errors.New("the caller is not known")
		}))
		s.Handle("GET /who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who := "nobody"
			if r.TLS != nil {
				who = "somebody"
				if len(r.TLS.PeerCertificates) > 0 {
					who = r.TLS.PeerCertificates[0].Subject.CommonName
				}
			}
			_, _ = io.WriteString(w, r.Proto+" "+who)
		}))
	})
	return s, endpoints, events
}

// caller is a configuration for a client; a pair without certificate gives none.
func caller(t *testing.T, roots []byte, pair tlstest.Pair) *tls.Config {
	t.Helper()
	cfg := &tls.Config{ServerName: "orders", RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	cfg.RootCAs.AppendCertsFromPEM(roots)
	if pair.Cert != nil {
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// ask makes a request with a connection of its own, and returns the answer's body.
func ask(t *testing.T, url string, cfg *tls.Config, h2 bool) (string, error) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: cfg.Clone(), ForceAttemptHTTP2: h2, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func invoke(t *testing.T, addr string, cfg *tls.Config) error {
	t.Helper()
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return callWait(ctx, cc)
}

// TestMutualTLS: both listeners for calls ask for certificates, and handlers see
// whose they are; the admin listener stays plain.
func TestMutualTLS(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	s, at, _ := tlsServer(t, d, nil)
	good := caller(t, a.PEM(), a.Issue(t, "billing"))
	if err := invoke(t, at[server.GRPC], good); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	for _, h2 := range []bool{true, false} {
		want := "HTTP/1.1 billing"
		if h2 {
			want = "HTTP/2.0 billing"
		}
		if got, err := ask(t, "https://"+at[server.HTTP]+"/who", good, h2); err != nil || got != want {
			t.Errorf("HTTP: %q, %v; want %q", got, err, want)
		}
	}
	if code, _, _ := get(t, "http://"+at[server.Admin]+"/debug/"); code != http.StatusOK {
		t.Errorf("admin: %d", code)
	}
	if status, ok := s.TLSStatus(); !ok || status.Err != nil || status.NotAfter.Before(time.Now()) || !strings.Contains(status.Files, d.Key) {
		t.Errorf("TLSStatus = %+v, %v", status, ok)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRefusals: who is refused, and what the operator is told.
func TestRefusals(t *testing.T) {
	a, b := tlstest.NewAuthority(t, "a"), tlstest.NewAuthority(t, "b")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	for _, tc := range []struct {
		name   string
		config *tls.Config // nil = no TLS
		reason string
		want   []string
	}{
		{"no certificate", caller(t, a.PEM(), tlstest.Pair{}), server.RefusedNoCertificate, []string{"gives no certificate", "client_auth is require", "mode mtls"}},
		{"another authority", caller(t, a.PEM(), b.Issue(t, "billing")), server.RefusedUnknownCA, []string{"certificate of billing", "client_ca_file (" + d.CA + ")"}},
		{"expired", caller(t, a.PEM(), a.Issue(t, "billing", tlstest.Expired())), server.RefusedExpired, []string{"certificate of billing", "not valid now", "renew it"}},
		{"does not trust", caller(t, b.PEM(), a.Issue(t, "billing")), server.RefusedByCaller, []string{"does not want the certificate in server.tls.cert_file (" + d.Cert + ")"}},
		{"no TLS", nil, server.RefusedPlain, []string{"does not speak TLS", "server.tls.mode"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, listener := range []string{server.GRPC, server.HTTP} {
				_, at, events := tlsServer(t, d, nil)
				err, code := errors.New("no answer"), 0
				switch {
				case listener == server.GRPC:
					err = invoke(t, at[listener], tc.config)
				case tc.config != nil:
					_, err = ask(t, "https://"+at[listener]+"/who", tc.config, true)
				default:
					code, _, _ = get(t, "http://"+at[listener]+"/who")
				}
				if err == nil || code != 0 && code != http.StatusBadRequest {
					t.Errorf("%s: err = %v, code %d", listener, err, code)
				}
				soon(t, wait, "event", func() bool {
					return events.find(func(e server.TLSEvent) bool { _, ok := e.(server.TLSRefused); return ok })
				})
				r := events.all[0].(server.TLSRefused)
				if r.Reason != tc.reason || r.Listener != listener || r.Times != 1 || !strings.HasPrefix(r.Remote, "127.0.0.1:") {
					t.Errorf("%s: %+v, want %s", listener, r, tc.reason)
				}
				for _, want := range tc.want {
					if !strings.Contains(r.Err.Error(), want) {
						t.Errorf("%s: %q does not say %q", listener, r.Err, want)
					}
				}
			}
		})
	}
}

// TestAlertArrives: a caller that has sent its request before it is refused
// still reads why, every time.
func TestAlertArrives(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	_, at, events := tlsServer(t, d, nil)
	for range 50 {
		_, err := ask(t, "https://"+at[server.HTTP]+"/who", caller(t, a.PEM(), tlstest.Pair{}), false)
		if err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Fatalf("err = %v, want the alert", err)
		}
	}
	events.mu.Lock()
	defer events.mu.Unlock()
	if len(events.all) != 1 {
		t.Errorf("50 refusals at once made %d events, want one", len(events.all))
	}
}

// TestPermissive: callers with TLS and without are both served.
func TestPermissive(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	_, at, events := tlsServer(t, d, func(c *server.TLS) { c.Permissive = true })
	good := caller(t, a.PEM(), a.Issue(t, "billing"))
	if err := invoke(t, at[server.GRPC], good); err != nil {
		t.Errorf("gRPC with TLS: %v", err)
	}
	if err := invoke(t, at[server.GRPC], nil); err == nil || !strings.Contains(err.Error(), "the caller is not known") {
		t.Errorf("gRPC without: %v, want the handler's own error", err)
	}
	if got, err := ask(t, "https://"+at[server.HTTP]+"/who", good, false); err != nil || got != "HTTP/1.1 billing" {
		t.Errorf("HTTP with TLS: %q, %v", got, err)
	}
	for range 2 {
		if code, _, got := get(t, "http://"+at[server.HTTP]+"/who"); code != http.StatusOK || got != "HTTP/1.1 nobody" {
			t.Errorf("HTTP without: %d %q", code, got)
		}
	}
	told := map[string]int{}
	events.find(func(e server.TLSEvent) bool {
		if e, ok := e.(server.TLSPlain); ok && e.Times == 1 && strings.HasPrefix(e.Remote, "127.0.0.1:") {
			told[e.Listener]++
		}
		return false
	})
	if told[server.GRPC] != 1 || told[server.HTTP] != 1 {
		t.Errorf("callers without TLS were told %v times, want once for each listener", told)
	}
	if err := invoke(t, at[server.GRPC], caller(t, a.PEM(), tlstest.Pair{})); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("gRPC with TLS and no certificate: %v, want it refused", err)
	}
}

// TestReloads: handshakes use what the files hold within a second; files that are
// not good change nothing but the status.
func TestReloads(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	s, at, events := tlsServer(t, d, func(c *server.TLS) { c.ClientCAFile = "" })
	plain := caller(t, a.PEM(), tlstest.Pair{})
	serial := func() string {
		conn, err := (&tls.Dialer{Config: plain}).DialContext(t.Context(), "tcp", at[server.GRPC])
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	d.Write(t, a.PEM(), a.Issue(t, "orders"))
	soon(t, time.Second, "the renewed certificate", func() bool { return serial() != first })
	second := serial()
	d.Write(t, a.PEM(), tlstest.Pair{Cert: []byte("x"), Key: []byte("x")})
	soon(t, time.Second, "the rejection", func() bool {
		status, _ := s.TLSStatus()
		return status.Err != nil && strings.Contains(status.Err.Error(), d.Cert)
	})
	if got := serial(); got != second {
		t.Errorf("with bad files: %s, want the last good certificate", got)
	}
	d.Write(t, a.PEM(), a.Issue(t, "orders"))
	soon(t, time.Second, "the recovery", func() bool {
		status, _ := s.TLSStatus()
		return status.Err == nil
	})
	for _, want := range []func(server.TLSEvent) bool{
		func(e server.TLSEvent) bool { r, ok := e.(server.TLSRejected); return ok && r.Err != nil },
		func(e server.TLSEvent) bool {
			r, ok := e.(server.TLSReloaded)
			return ok && r.NotAfter.After(time.Now())
		},
	} {
		soon(t, wait, "event", func() bool { return events.find(want) })
	}
}

// TestSlowHandshake: somebody who does not speak holds up nobody, nor the stop.
func TestSlowHandshake(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	s, at, events := tlsServer(t, d, func(c *server.TLS) { c.ClientCAFile = "" })
	for range 20 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at[server.HTTP])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if got, err := ask(t, "https://"+at[server.HTTP]+"/who", caller(t, a.PEM(), tlstest.Pair{}), false); err != nil || got != "HTTP/1.1 somebody" {
		t.Errorf("%q, %v", got, err)
	}
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
	if events.find(func(e server.TLSEvent) bool { _, ok := e.(server.TLSRefused); return ok }) {
		t.Error("a probe that says nothing is told of as refused")
	}
}

func TestTLSIsRefused(t *testing.T) {
	a := tlstest.NewAuthority(t, "a")
	d := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders"))
	old := tlstest.NewDir(t, t.TempDir(), a.PEM(), a.Issue(t, "orders", tlstest.Expired()))
	for _, tc := range []struct {
		name string
		tls  server.TLS
		want string
	}{
		{"no key", server.TLS{CertFile: d.Cert}, "cert_file and key_file must both be given"},
		{"no such file", server.TLS{CertFile: d.Cert + "x", KeyFile: d.Key}, "cert.pemx: no such file"},
		{"expired", server.TLS{CertFile: old.Cert, KeyFile: old.Key}, "it has expired at"},
		{"nobody to check by", server.TLS{CertFile: d.Cert, KeyFile: d.Key, ClientAuth: server.ClientAuthRequire}, "client_ca_file: is empty"},
		{"roots for nothing", server.TLS{CertFile: d.Cert, KeyFile: d.Key, ClientCAFile: d.CA, ClientAuth: server.ClientAuthNone}, "is of no use with client_auth none"},
		{"unknown", server.TLS{CertFile: d.Cert, KeyFile: d.Key, ClientAuth: "maybe"}, `"maybe" is none of none, request, require`},
	} {
		cfg := loopback()
		cfg.TLS = &tc.tls
		if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: err = %v, want %q", tc.name, err, tc.want)
		}
	}
}
