package auth_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// badToken is a kind of token that must be refused.
type badToken struct {
	name   string
	reason auth.Reason
	make   func(t testing.TB, n int) string
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// badTokens are all kinds; n makes two tokens of a kind differ.
func badTokens(good, stranger *signer) []badToken {
	signed := func(s *signer, change map[string]any, headers ...map[string]any) func(t testing.TB, n int) string {
		return func(t testing.TB, n int) string {
			c := claims(change)
			c["jti"] = strconv.Itoa(n)
			return s.sign(t, c, headers...)
		}
	}
	payload := func(text string) func(t testing.TB, n int) string {
		return func(t testing.TB, _ int) string { return good.signPayload(t, []byte(text)) }
	}
	// parts changes the three parts of a good token.
	parts := func(change func(n int, p []string) []string) func(t testing.TB, n int) string {
		return func(t testing.TB, n int) string {
			return strings.Join(change(n, strings.Split(good.sign(t, claims(nil)), ".")), ".")
		}
	}
	header := func(text string) func(t testing.TB, n int) string {
		return parts(func(_ int, p []string) []string { return []string{b64(text), p[1], p[2]} })
	}
	const year = 365 * 24 * time.Hour
	return []badToken{
		{"alg none", auth.Algorithm, parts(func(_ int, p []string) []string { return []string{b64(`{"alg":"none"}`), p[1], ""} })},
		{"alg None", auth.Algorithm, parts(func(_ int, p []string) []string { return []string{b64(`{"alg":"nOnE"}`), p[1], p[2]} })},
		{"no alg", auth.Algorithm, header(`{"typ":"JWT"}`)},
		{"HS256 with the public key", auth.Algorithm, func(t testing.TB, _ int) string { return hmacToken(t, good) }},
		{"alg of another key", auth.UnknownKey, header(`{"alg":"RS256","kid":"` + good.id + `"}`)},
		{"alg that the issuer may not use", auth.Algorithm, header(`{"alg":"ES512","kid":"` + good.id + `"}`)},
		{"alg twice", auth.Malformed, header(`{"alg":"none","alg":"ES256","kid":"` + good.id + `"}`)},
		{"alg is a number", auth.Algorithm, header(`{"alg":7}`)},
		{"wrong kid", auth.UnknownKey, signed(good, nil, map[string]any{"kid": "nobody's"})},
		{"kid of the right key, signed with another", auth.Signature, signed(&signer{good.id, good.algorithm, stranger.key}, nil)},
		{"another key, with the key in the header", auth.Signature, signed(&signer{good.id, good.algorithm, stranger.key}, nil, map[string]any{"jku": "https://evil.example.org"})},
		{"changed claims", auth.Signature, parts(func(_ int, p []string) []string {
			raw, _ := base64.RawURLEncoding.DecodeString(p[1])
			return []string{p[0], b64(strings.Replace(string(raw), "alice", "admin", 1)), p[2]}
		})},
		{"no signature", auth.Signature, parts(func(_ int, p []string) []string { return []string{p[0], p[1], ""} })},
		{"half a signature", auth.Signature, parts(func(_ int, p []string) []string { return []string{p[0], p[1], p[2][:len(p[2])/2]} })},
		{"expired", auth.Expired, signed(good, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})},
		{"expired long ago", auth.Expired, signed(good, map[string]any{"exp": 0})},
		{"not yet valid", auth.NotYetValid, signed(good, map[string]any{"nbf": time.Now().Add(time.Minute).Unix()})},
		{"issued in a year", auth.NotYetValid, signed(good, map[string]any{"iat": time.Now().Add(year).Unix()})},
		{"no end", auth.Malformed, signed(good, map[string]any{"exp": nil})},
		{"end is text", auth.Malformed, signed(good, map[string]any{"exp": "tomorrow"})},
		{"end beyond time", auth.Malformed, payload(`{"iss":"` + issuerClaim + `","sub":"alice","aud":"orders","exp":1e300}`)},
		{"wrong audience", auth.WrongAudience, signed(good, map[string]any{"aud": []string{"billing", "shop"}})},
		{"no audience", auth.WrongAudience, signed(good, map[string]any{"aud": nil})},
		{"audience is a number", auth.Malformed, signed(good, map[string]any{"aud": 7})},
		{"wrong issuer", auth.UnknownIssuer, signed(good, map[string]any{"iss": issuerClaim + "/"})},
		{"no issuer", auth.UnknownIssuer, signed(good, map[string]any{"iss": nil})},
		{"no subject", auth.Malformed, signed(good, map[string]any{"sub": nil})},
		{"subject with a line break", auth.Malformed, signed(good, map[string]any{"sub": "a\nb"})},
		{"long subject", auth.Malformed, signed(good, map[string]any{"sub": strings.Repeat("a", 257)})},
		{"critical header", auth.Malformed, header(`{"alg":"ES256","kid":"` + good.id + `","crit":["exp"],"exp":1}`)},
		{"another type", auth.Malformed, signed(good, nil, map[string]any{"typ": "logout+jwt"})},
		{"huge", auth.TooLarge, signed(good, map[string]any{"pad": strings.Repeat("a", auth.MaxToken)})},
		{"nested claims", auth.Malformed, payload(strings.Repeat(`{"a":`, 1500) + "1" + strings.Repeat("}", 1499))},
		{"deep list", auth.Malformed, payload(strings.Repeat("[", 8000))},
		{"a list", auth.Malformed, payload(`[]`)},
		{"null", auth.UnknownIssuer, payload(`null`)},
		{"claims twice", auth.Malformed, payload(`{"iss":"a","iss":"` + issuerClaim + `","sub":"alice","aud":"orders","exp":9999999999}`)},
		{"claims in capitals", auth.UnknownIssuer, payload(`{"ISS":"` + issuerClaim + `","sub":"alice","aud":"orders","exp":9999999999}`)},
		{"more behind the claims", auth.Malformed, payload(`{} {}`)},
		{"no JSON", auth.Malformed, payload("\x00\xff")},
		{"no base64", auth.Malformed, parts(func(_ int, p []string) []string { return []string{p[0], "!" + p[1], p[2]} })},
		{"standard base64", auth.Malformed, parts(func(_ int, p []string) []string { return []string{p[0] + "==", p[1], p[2]} })},
		{"header no JSON", auth.Malformed, header(`{"alg"`)},
		{"header is a list", auth.Malformed, header(`["ES256"]`)},
		{"two parts", auth.Malformed, parts(func(_ int, p []string) []string { return p[:2] })},
		{"four parts", auth.Malformed, parts(func(_ int, p []string) []string { return append(p, p[2]) })},
		{"encrypted", auth.Malformed, parts(func(_ int, p []string) []string { return append(p, p[2], p[2]) })},
		{"JSON form", auth.Malformed, func(testing.TB, int) string { return `{"payload":"e30","signatures":[]}` }},
		{"one word", auth.Malformed, func(testing.TB, int) string { return "secret" }},
		{"dots", auth.Algorithm, func(testing.TB, int) string { return ".." }},
	}
}

func issuerES(t testing.TB, keys ...*signer) auth.Issuer {
	i := corp(keyFile(t, keys...))
	i.Algorithms = []string{"ES256", "RS256"}
	return i
}

// TestBadTokens: each kind is refused for its reason, over gRPC and HTTP alike, and
// the caller is told the reason and the rule, no more.
func TestBadTokens(t *testing.T) {
	good, stranger := newSigner(t, "k-1", "ES256"), newSigner(t, "k-2", "ES256")
	var refusals atomic.Int64
	a := build(t, auth.Config{
		Issuers: []auth.Issuer{issuerES(t, good)}, Policy: anyone(),
		OnRefusal: func(*middleware.Call, *auth.RefusalError) { refusals.Add(1) },
	})
	if who, err := call(t.Context(), a, method, good.sign(t, claims(nil))); who != "corp:alice" || err != nil {
		t.Fatalf("a good token: %q, %v", who, err)
	}
	for _, bad := range badTokens(good, stranger) {
		token := bad.make(t, 0)
		_, err := call(t.Context(), a, method, token)
		s := middleware.Status(err)
		if s.Code() != codes.Unauthenticated || len(s.Details()) != 1 {
			t.Errorf("%s: %v", bad.name, err)
			continue
		}
		info, _ := s.Details()[0].(*errdetails.ErrorInfo)
		if info.GetReason() != strings.ToUpper(string(bad.reason)) || info.GetMetadata()["rule"] != "all" {
			t.Errorf("%s: refused for %v, want %s", bad.name, info, bad.reason)
		}
		if !strings.HasSuffix(s.Message(), "(rule all)") || len(token) > 8 && strings.Contains(s.Message()+err.Error(), token[len(token)-8:]) {
			t.Errorf("%s: the caller is told %q, the log %q", bad.name, s.Message(), err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "bearer "+token)
		w := request(a, "GET /", r)
		challenge := w.Header().Get("WWW-Authenticate")
		if w.Code != http.StatusUnauthorized || !strings.HasPrefix(challenge, `Bearer error="invalid_token", error_description="`) || !strings.Contains(w.Body.String(), s.Message()) {
			t.Errorf("%s over HTTP: %d %q %s", bad.name, w.Code, challenge, w.Body)
		}
	}
	if n := int64(2 * len(badTokens(good, stranger))); refusals.Load() != n {
		t.Errorf("%d refusals were told of, want %d", refusals.Load(), n)
	}
}

// TestGoodTokens: what is not usual but right.
func TestGoodTokens(t *testing.T) {
	for _, algorithm := range []string{"ES256", "ES384", "EdDSA", "RS256", "PS256"} {
		t.Run(algorithm, func(t *testing.T) {
			s := newSigner(t, "k", algorithm)
			a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keyFile(t, s))}, Policy: anyone()})
			nameless := &signer{"", s.algorithm, s.key}
			for name, token := range map[string]string{
				"plain":              s.sign(t, claims(nil)),
				"several audiences":  s.sign(t, claims(map[string]any{"aud": []string{"a", audience}})),
				"a little early":     s.sign(t, claims(map[string]any{"nbf": time.Now().Add(20 * time.Second).Unix()})),
				"a little late":      s.sign(t, claims(map[string]any{"exp": time.Now().Add(-20 * time.Second).Unix()})),
				"access token":       s.sign(t, claims(nil), map[string]any{"typ": "at+JWT"}),
				"no key named":       nameless.sign(t, claims(nil)),
				"odd claims":         s.sign(t, claims(map[string]any{"scope": 7, "roles": map[string]any{"a": "b"}})),
				"large, not to keep": s.sign(t, claims(map[string]any{"pad": strings.Repeat("a", 5000)})),
			} {
				for range 2 {
					if who, err := call(t.Context(), a, method, token); who != "corp:alice" || err != nil {
						t.Errorf("%s: %q, %v", name, who, err)
					}
				}
			}
		})
	}
}

// TestCredentials: what stands in the header beside tokens.
func TestCredentials(t *testing.T) {
	s := newSigner(t, "k", "ES256")
	a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keyFile(t, s))}, Policy: anyone()})
	none := build(t, auth.Config{Policy: anyone()})
	for _, tc := range []struct {
		header, challenge string
		status            int
	}{
		{"", "Bearer", http.StatusUnauthorized},
		{"Basic YTpi", "Bearer", http.StatusUnauthorized},
		{"Bearer", "Bearer", http.StatusUnauthorized},
		{"Bearer  ", "Bearer", http.StatusUnauthorized},
		{"bEARER  " + s.sign(t, claims(nil)) + " ", "", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", tc.header)
		w := request(a, "GET /", r)
		if w.Code != tc.status || w.Header().Get("WWW-Authenticate") != tc.challenge {
			t.Errorf("%.10q: %d %q", tc.header, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		if w := request(none, "GET /", r); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "NO_CREDENTIALS") {
			t.Errorf("%.10q where no tokens are taken: %d %s", tc.header, w.Code, w.Body)
		}
	}
}

// TestScopeChallenge: over HTTP a token without a scope is told which ones it needs.
func TestScopeChallenge(t *testing.T) {
	s := newSigner(t, "k", "ES256")
	a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keyFile(t, s))}, Policy: rules(
		auth.Rule{Name: "r", Methods: []string{"*"}, Allow: []string{"corp:*"}, Scopes: []string{"read", "pay"}},
	)})
	for _, c := range []map[string]any{{"scope": "read"}, {"scope": nil, "scp": []string{"pay"}}, {"scope": nil, "roles": []string{"read"}}, {"scope": nil}} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+s.sign(t, claims(c)))
		w := request(a, "GET /", r)
		if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusForbidden || got != `Bearer error="insufficient_scope", scope="read pay"` {
			t.Errorf("%v: %d %q", c, w.Code, got)
		}
	}
	for _, c := range []map[string]any{{"scope": "pay read"}, {"scope": "read", "scp": []string{"pay"}}, {"scope": "read", "roles": []string{"pay"}}} {
		if who, err := call(t.Context(), a, method, s.sign(t, claims(c))); err != nil || who != "corp:alice" {
			t.Errorf("%v: %q, %v", c, who, err)
		}
	}
}

// TestIdentityOfToken: what a handler finds.
func TestIdentityOfToken(t *testing.T) {
	s := newSigner(t, "k", "ES256")
	a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keyFile(t, s))}, Policy: anyone()})
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+s.sign(t, claims(map[string]any{"exp": exp.Unix(), "team": map[string]any{"name": "blue"}})))
	served := false
	middleware.HTTPServer("orders", "GET /", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		served = true
		id, ok := auth.From(r.Context())
		if !ok || id.Subject != "alice" || id.Source != "corp" || id.Kind != auth.KindJWT || id.Issuer != issuerClaim || !id.Expires.Equal(exp) {
			t.Errorf("identity %+v", id)
		}
		if strings.Join(id.Audience, " ") != audience || strings.Join(id.Scopes, " ") != "read write" {
			t.Errorf("audience %q, scopes %q", id.Audience, id.Scopes)
		}
		var own struct {
			Team struct {
				Name string `json:"name"`
			} `json:"team"`
		}
		if err := id.Claims(&own); err != nil || own.Team.Name != "blue" {
			t.Errorf("claims %+v, %v", own, err)
		}
	}), a.Middleware()).ServeHTTP(httptest.NewRecorder(), r)
	if !served {
		t.Error("the handler was not called")
	}
	if _, ok := auth.From(t.Context()); ok {
		t.Error("there is somebody in an empty context")
	}
}

// TestRememberedTokens: one that is remembered ends all the same when its time is
// over.
func TestRememberedTokens(t *testing.T) {
	s := newSigner(t, "k", "ES256")
	file := keyFile(t, s)
	synctest.Test(t, func(t *testing.T) {
		a := build(t, auth.Config{Issuers: []auth.Issuer{corp(file)}, Policy: anyone()})
		token := s.sign(t, claims(map[string]any{"exp": time.Now().Add(time.Minute).Unix()}))
		for _, step := range []struct {
			after time.Duration
			code  codes.Code
		}{{0, codes.OK}, {0, codes.OK}, {80 * time.Second, codes.OK}, {11 * time.Second, codes.Unauthenticated}, {0, codes.Unauthenticated}} {
			advance(step.after)
			if _, err := call(t.Context(), a, method, token); middleware.Code(err) != step.code {
				t.Errorf("after %v: %v", step.after, err)
			}
		}
	})
}
