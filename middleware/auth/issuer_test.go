package auth_test

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"plinth.internal/middleware/auth"
)

func TestIssuerErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*auth.Issuer)
		want   string // "" = good
	}{
		{"good", func(*auth.Issuer) {}, ""},
		{"no name", func(i *auth.Issuer) { i.Name = "" }, "Name must be"},
		{"taken", func(i *auth.Issuer) { i.Name = "mtls" }, "Name is taken"},
		{"no claim", func(i *auth.Issuer) { i.Issuer = "" }, "Issuer must be"},
		{"no audience", func(i *auth.Issuer) { i.Audiences = nil }, "Audiences must name"},
		{"no keys", func(i *auth.Issuer) { i.Keys = "" }, "Keys must be"},
		{"https", func(i *auth.Issuer) { i.Keys = "https://login.example.org/keys?a=b" }, ""},
		{"http", func(i *auth.Issuer) { i.Keys = "http://login.example.org/keys" }, "use https:"},
		{"http, said", func(i *auth.Issuer) { i.Keys, i.InsecureHTTP = "http://login.example.org/keys", true }, ""},
		{"http, loopback", func(i *auth.Issuer) { i.Keys = "http://127.0.0.1:1/keys" }, ""},
		{"http, nearly loopback", func(i *auth.Issuer) { i.Keys = "http://127.0.0.1.example.org/keys" }, "use https:"},
		{"password", func(i *auth.Issuer) { i.Keys = "https://me:secret@login.example.org/keys" }, "Keys has a password in it"},
		{"no host", func(i *auth.Issuer) { i.Keys = "https:keys" }, "Keys is not a URL"},
		{"HS256", func(i *auth.Issuer) { i.Algorithms = []string{"HS256"} }, `Algorithms "HS256" is none of RS256`},
		{"none", func(i *auth.Issuer) { i.Algorithms = []string{"none"} }, `Algorithms "none" is none of RS256`},
		{"too often", func(i *auth.Issuer) { i.Refresh = time.Second }, "Refresh is below 10s"},
	} {
		i := corp("keys.json")
		tc.change(&i)
		err := auth.ValidateIssuers([]auth.Issuer{i})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: err = %v, want %q", tc.name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a password: %v", tc.name, err)
		}
		if _, ok := errors.AsType[*auth.IssuerError](err); err != nil && !ok {
			t.Errorf("%s: %#v", tc.name, err)
		}
	}
	if err := auth.ValidateIssuers([]auth.Issuer{corp("a"), corp("b")}); err == nil || strings.Count(err.Error(), "another issuer's already") != 2 {
		t.Errorf("two issuers alike: %v", err)
	}
}

// TestKeyFiles: what a file of keys may hold at a start.
func TestKeyFiles(t *testing.T) {
	good := newSigner(t, "k", "ES256")
	small := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	document := func(keys ...jose.JSONWebKey) string {
		b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	public := jose.JSONWebKey{Key: good.key.Public(), KeyID: "k"}
	for _, tc := range []struct {
		name, text, want string // "" = good
	}{
		{"good", document(public), ""},
		{"unknown kinds beside it", `{"keys":[{"kty":"NEW","kid":"x"},{"kty":"OKP","crv":"X25519","x":"AAAA"},7,` + document(public)[len(`{"keys":[`):], ""},
		{"for encryption only", document(jose.JSONWebKey{Key: good.key.Public(), Use: "enc"}), "there is none that can check"},
		{"small", document(jose.JSONWebKey{Key: small}), "there is none that can check"},
		{"another algorithm", document(jose.JSONWebKey{Key: good.key.Public(), Algorithm: "ES384"}), "there is none that can check"},
		{"private", document(jose.JSONWebKey{Key: good.key, KeyID: "k"}), `"k" is a secret or a private key`},
		{"shared secret", document(public, jose.JSONWebKey{Key: []byte("0123456789abcdef"), KeyID: "s"}), `"s" is a secret or a private key`},
		{"empty", `{"keys":[]}`, "there is none that can check"},
		{"no JSON", "keys", "not a JSON Web Key Set"},
		{"a list", "[]", "not a JSON Web Key Set"},
		{"huge", `{"keys":[` + strings.Repeat(" ", auth.MaxKeys) + `]}`, "more than 1048576 bytes"},
	} {
		name := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(name, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := auth.New(auth.Config{Issuers: []auth.Issuer{corp(name)}, Policy: anyone()})
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "issuer corp: "+name)) {
			t.Errorf("%s: err = %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := auth.New(auth.Config{Issuers: []auth.Issuer{corp("/nowhere/keys.json")}}); err == nil || !strings.Contains(err.Error(), "/nowhere/keys.json") {
		t.Errorf("no file: %v", err)
	}
}
