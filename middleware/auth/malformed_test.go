package auth_test

import (
	"crypto/x509"
	"encoding/pem"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// hmacToken is signed with the public key taken for a shared secret: who mixes up
// the two takes it.
func hmacToken(t testing.TB, s *signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	secret := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", s.id)
	mac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, opts)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := mac.Sign([]byte(`{"iss":"` + issuerClaim + `","sub":"admin","aud":"orders","exp":9999999999}`))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestMalformedTokens sends 1 000 tokens of each kind, and 1 000 good ones with
// some bytes changed: each is refused with a reason, and none is kept.
func TestMalformedTokens(t *testing.T) {
	const each = 1000
	good, stranger := newSigner(t, "k-1", "ES256"), newSigner(t, "k-2", "ES256")
	a := build(t, auth.Config{Issuers: []auth.Issuer{issuerES(t, good)}, Policy: anyone()})
	refused := func(name, token string) {
		_, err := call(t.Context(), a, method, token)
		if s := middleware.Status(err); s.Code() != codes.Unauthenticated || len(s.Details()) != 1 {
			t.Fatalf("%s: %v for %q", name, err, token)
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	random := rand.New(rand.NewPCG(1, 2)) // the same each time
	for _, bad := range badTokens(good, stranger) {
		// Making tokens costs more than refusing them: ten of a kind, then changes
		// of what does not matter to the reason.
		var tokens []string
		for n := range 10 {
			tokens = append(tokens, bad.make(t, n))
		}
		for n := range each {
			refused(bad.name, tokens[n%len(tokens)])
		}
	}
	token := good.sign(t, claims(nil))
	for range each {
		b := []byte(token)
		for range 1 + random.IntN(3) {
			i := random.IntN(len(b) - 1)
			if b[i+1] == '.' || i == len(b)-2 {
				i-- // the last character of a part has bits that mean nothing
			}
			for old := b[i]; b[i] == old; {
				b[i] = byte(random.IntN(256))
			}
		}
		if changed := string(b); !strings.ContainsAny(changed, "\r\n ") {
			refused("changed", changed)
		}
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	if who, err := call(t.Context(), a, method, token); who != "corp:alice" || err != nil {
		t.Errorf("the good one: %q, %v", who, err)
	}
}

func FuzzToken(f *testing.F) {
	good, stranger := newSigner(f, "k-1", "ES256"), newSigner(f, "k-2", "ES256")
	a := build(f, auth.Config{Issuers: []auth.Issuer{issuerES(f, good)}, Policy: anyone()})
	for _, bad := range badTokens(good, stranger) {
		if token := bad.make(f, 0); len(token) < 4<<10 {
			f.Add(token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		who, err := call(t.Context(), a, method, token)
		if err == nil || who != "" {
			t.Fatalf("%q is taken for %q", token, who)
		}
		s := middleware.Status(err)
		if s.Code() != codes.Unauthenticated || len(s.Message()) > 200 || len(err.Error()) > 1000 {
			t.Errorf("%v", err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(keySet(f, newSigner(f, "k", "ES256")))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":""},{"kty":"oct","k":"AAAA"}]}`))
	f.Add([]byte(`{"keys":[null,7,"a",[],{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if usable := auth.TryKeys(b); usable < 0 {
			t.Errorf("%d keys", usable)
		}
	})
}
