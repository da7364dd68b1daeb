package auth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// certificate is one that the authority has made.
func certificate(t testing.TB, a *tlstest.Authority, name string, opts ...tlstest.Option) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(a.Issue(t, name, opts...).Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// withCert is the context of a call over a connection with the certificate.
func withCert(ctx context.Context, cert *x509.Certificate, verified bool) context.Context {
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	if verified {
		state.VerifiedChains = [][]*x509.Certificate{{cert}}
	}
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
}

func TestCertificates(t *testing.T) {
	ca := tlstest.NewAuthority(t, "authority")
	names := func(dns ...string) tlstest.Option { return func(c *x509.Certificate) { c.DNSNames = dns } }
	uri := func(text string) tlstest.Option {
		return func(c *x509.Certificate) {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
	const spiffe = "spiffe://example.org/ns/prod/sa/orders"
	for _, tc := range []struct {
		name string
		cert *x509.Certificate
		want string // "" = refused
	}{
		{"SPIFFE ID", certificate(t, ca, "x", tlstest.ID(spiffe)), "mtls:" + spiffe},
		{"SPIFFE ID and names", certificate(t, ca, "x", uri(spiffe)), "mtls:" + spiffe},
		{"names", certificate(t, ca, "x", names("orders.example.org", "b")), "mtls:orders.example.org"},
		{"names and another URI", certificate(t, ca, "x", uri("https://example.org")), "mtls:x"},
		{"common name", certificate(t, ca, "Jane Doe", names()), "mtls:Jane Doe"},
		{"two SPIFFE IDs", certificate(t, ca, "x", uri(spiffe), uri("spiffe://example.org/b")), ""},
		{"a name like an ID", certificate(t, ca, spiffe, names()), ""},
		{"a name like an ID, in capitals", certificate(t, ca, "SPIFFE://example.org/b", names()), ""},
		{"nothing", certificate(t, ca, "", names()), ""},
		{"control characters", certificate(t, ca, "a\nb", names()), ""},
	} {
		a := build(t, auth.Config{Policy: anyone()})
		for range 2 {
			who, err := call(withCert(t.Context(), tc.cert, true), a, method, "")
			if who != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("%s: %q, %v", tc.name, who, err)
			}
			if err != nil && (middleware.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "does not say who it is for (rule all)")) {
				t.Errorf("%s: %v", tc.name, err)
			}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{tc.cert}}}
			if w := request(a, "GET /", r); w.Code == http.StatusOK != (tc.want != "") || w.Code == http.StatusOK && w.Body.String() != tc.want {
				t.Errorf("%s over HTTP: %d %s", tc.name, w.Code, w.Body)
			}
		}
		if _, err := call(withCert(t.Context(), tc.cert, false), a, method, ""); middleware.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "needs a bearer token") {
			t.Errorf("%s, not verified: %v", tc.name, err)
		}
	}
}

// TestCertificateAndToken: who has both is let in for either, but a token that is
// shown must be good.
func TestCertificateAndToken(t *testing.T) {
	s := newSigner(t, "k", "ES256")
	cert := certificate(t, tlstest.NewAuthority(t, "authority"), "front")
	a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keyFile(t, s))}, Policy: rules(
		auth.Rule{Name: "both", Methods: []string{"a/*"}, Allow: []string{"any"}},
		auth.Rule{Name: "service", Methods: []string{"b/*"}, Allow: []string{"mtls:front"}},
		auth.Rule{Name: "person", Methods: []string{"c/*"}, Allow: []string{"corp:*"}},
		auth.Rule{Name: "scope", Methods: []string{"d/*"}, Allow: []string{"any"}, Scopes: []string{"read"}},
		auth.Rule{Name: "other", Methods: []string{"e/*"}, Allow: []string{"mtls:back", "corp:bob"}},
	)})
	ctx, token := withCert(t.Context(), cert, true), s.sign(t, claims(nil))
	for _, tc := range []struct{ method, token, want string }{
		{"a/x", token, "corp:alice"},
		{"a/x", "", "mtls:front"},
		{"a/x", "bad", ""},
		{"b/x", token, "mtls:front"},
		{"b/x", "bad", ""},
		{"c/x", token, "corp:alice"},
		{"c/x", "", ""},
		{"d/x", token, "corp:alice"},
		{"d/x", "", ""},
		{"e/x", token, ""},
	} {
		if who, err := call(ctx, a, tc.method, tc.token); who != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s with %.5q: %q, %v", tc.method, tc.token, who, err)
		}
	}
}

// TestIdentityOfCertificate: what a handler finds.
func TestIdentityOfCertificate(t *testing.T) {
	cert := certificate(t, tlstest.NewAuthority(t, "authority"), "front")
	a := build(t, auth.Config{Policy: anyone()})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
	served := false
	middleware.HTTPServer("orders", "GET /", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		served = true
		id, ok := auth.From(r.Context())
		if !ok || id.Subject != "front" || id.Source != auth.KindMTLS || id.Kind != auth.KindMTLS || id.Issuer != "CN=authority" || !id.Expires.Equal(cert.NotAfter) {
			t.Errorf("identity %+v", id)
		}
		if err := id.Claims(&struct{}{}); err == nil || len(id.Scopes)+len(id.Audience) > 0 {
			t.Errorf("it has claims: %v, %+v", err, id)
		}
	}), a.Middleware()).ServeHTTP(httptest.NewRecorder(), r)
	if !served {
		t.Error("the handler was not called")
	}
}
