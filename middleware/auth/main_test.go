package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// advance lets the time of a bubble pass.
func advance(d time.Duration) { <-time.After(d) }

const (
	issuerClaim = "https://login.example.org"
	audience    = "orders"
	method      = "orders.v1.Orders/Get"
)

// signer makes tokens with one key.
type signer struct {
	id, algorithm string
	key           crypto.Signer
}

func newSigner(t testing.TB, id, algorithm string) *signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, algorithm, key}
}

// claims are those of a good token, with changes; nil takes one out.
func claims(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": issuerClaim, "sub": "alice", "aud": audience, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"scope": "read write",
	}
	for k, v := range changes {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func (s *signer) sign(t testing.TB, c map[string]any, headers ...map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return s.signPayload(t, payload, headers...)
}

func (s *signer) signPayload(t testing.TB, payload []byte, headers ...map[string]any) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if s.id != "" {
		opts = opts.WithHeader("kid", s.id)
	}
	for _, h := range headers {
		for k, v := range h {
			opts = opts.WithHeader(jose.HeaderKey(k), v)
		}
	}
	sig, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(s.algorithm), Key: s.key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := sig.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// keySet is what an issuer publishes.
func keySet(t testing.TB, signers ...*signer) []byte {
	t.Helper()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, s := range signers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: s.algorithm, Use: "sig"})
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keyFile is the same in a file.
func keyFile(t testing.TB, signers ...*signer) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(name, keySet(t, signers...), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func corp(keys string) auth.Issuer {
	return auth.Issuer{Name: "corp", Issuer: issuerClaim, Audiences: []string{audience}, Keys: keys}
}

func rules(r ...auth.Rule) auth.Policy { return auth.Policy{Rules: r} }

// anyone is a rule that lets in everybody who says who he is.
func anyone() auth.Policy {
	return rules(auth.Rule{Name: "all", Methods: []string{"*"}, Allow: []string{auth.Any}})
}

func build(t testing.TB, cfg auth.Config) *auth.Auth {
	t.Helper()
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// call makes a unary gRPC call with a token, and returns who the handler was told
// makes it; "" for nobody.
func call(ctx context.Context, a *auth.Auth, fullMethod, token string) (string, error) {
	if token != "" {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", "Bearer "+token))
	}
	resp, err := middleware.UnaryServer(a.Middleware())(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/" + fullMethod}, whoIsIt)
	who, _ := resp.(string)
	return who, err
}

func whoIsIt(ctx context.Context, _ any) (any, error) {
	id, ok := auth.From(ctx)
	if !ok {
		return middleware.Caller(ctx), nil
	}
	if id.String() != middleware.Caller(ctx) {
		return "two callers: " + id.String() + " and " + middleware.Caller(ctx), nil
	}
	return id.String(), nil
}

// request makes an HTTP request to a route.
func request(a *auth.Auth, route string, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	middleware.HTTPServer("orders", route, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(middleware.Caller(r.Context())))
	}), a.Middleware()).ServeHTTP(w, r)
	return w
}
