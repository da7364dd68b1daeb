package framework_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/internal/tlsfiles"
	"plinth.internal/internal/tlsfiles/tlstest"
	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// login is an issuer of tokens with one key.
type login struct {
	key  *ecdsa.PrivateKey
	keys string // the file with the public one
}

func newLogin(t *testing.T) *login {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	l := &login{key, filepath.Join(t.TempDir(), "keys.json")}
	if err := os.WriteFile(l.keys, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *login) token(t *testing.T, subject, scope string) string {
	t.Helper()
	sig, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: l.key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "https://login.test", "sub": subject, "aud": "back", "scope": scope, "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := sig.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// settingsOf are options for a map of keys.
func settingsOf(keys map[string]string) []framework.Option {
	var out []framework.Option
	for k, v := range keys {
		out = append(out, framework.WithSetting(k, v))
	}
	return out
}

// TestAuth: settings alone say who may call, over gRPC and HTTP, by certificate and
// by token; the log and the metrics know, and neither shows a secret.
func TestAuth(t *testing.T) {
	ca := tlstest.NewAuthority(t, "ca")
	ours := tlstest.NewDir(t, t.TempDir(), ca.PEM(), ca.Issue(t, "front", tlstest.ID("spiffe://test/front")))
	theirs := tlstest.NewDir(t, t.TempDir(), ca.PEM(), ca.Issue(t, "back"))
	l := newLogin(t)
	policy := newFile(t, `
server:
  auth:
    mode: on
    issuers:
      corp: {issuer: "https://login.test", audience: [back], keys: `+l.keys+`}
    policy:
      services: {order: 1, methods: [test.v1.Echo/Say, GET /who], allow: ["mtls:spiffe://test/*"]}
      people: {order: 2, methods: [GET /me], allow: ["corp:*"], scopes: [read]}
      open: {order: 3, methods: [GET /ping], allow: [anonymous]}
`)
	env := frameworktest.New(t)
	var logs, callerLogs lockedBuffer
	back := env.Start("back", func(ctx context.Context, s *framework.Service) error {
		who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, ok := auth.From(r.Context())
			if ok != (id.String() != "") || id.String() != middleware.Caller(r.Context()) {
				t.Errorf("%v is not %q", id, middleware.Caller(r.Context()))
			}
			_, _ = io.WriteString(w, id.String())
		})
		for _, route := range []string{"GET /who", "GET /me", "GET /ping", "GET /forgotten"} {
			s.Handle(route, who)
		}
		return setupEcho(echo{say: func(ctx context.Context, _ string) (string, error) { return middleware.Caller(ctx), nil }})(ctx, s)
	}, append(settingsOf(map[string]string{
		"server.tls.cert_file": theirs.Cert, "server.tls.key_file": theirs.Key, "server.tls.client_ca_file": theirs.CA,
		"telemetry.log.format": "json", "telemetry.log.level": "debug",
	}), framework.WithConfigFile(policy.path), framework.WithLogOutput(&logs))...)

	tokenFile := filepath.Join(t.TempDir(), "token")
	good := l.token(t, "alice", "read")
	if err := os.WriteFile(tokenFile, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	var web *http.Client
	front := env.Start("front", func(_ context.Context, s *framework.Service) error {
		conn, err := s.Client("back")
		if err != nil {
			return err
		}
		web = s.HTTPClient("back")
		s.RegisterService(&echoDesc, echo{say: func(ctx context.Context, in string) (string, error) { return say(ctx, conn, in) }})
		return nil
	}, append(settingsOf(map[string]string{
		"clients.back.tls.mode": "mtls", "clients.back.tls.ca_file": ours.CA, "clients.back.tls.cert_file": ours.Cert,
		"clients.back.tls.key_file": ours.Key, "clients.back.token_file": tokenFile, "telemetry.log.level": "debug",
	}), framework.WithLogOutput(&callerLogs))...)

	visit := func(path, token string) (int, string, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://back"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), resp.Header.Get("WWW-Authenticate")
	}
	if got, err := say(t.Context(), front.Conn(), "x"); err != nil || got != "mtls:spiffe://test/front" {
		t.Errorf("gRPC: %q, %v", got, err)
	}
	for _, tc := range []struct {
		path, token string
		status      int
		body        string
	}{
		{"/who", "", http.StatusOK, "mtls:spiffe://test/front"},
		{"/me", "", http.StatusOK, "corp:alice"}, // with the file's token
		{"/me", l.token(t, "bob", "read"), http.StatusOK, "corp:bob"},
		{"/me", l.token(t, "bob", "write"), http.StatusForbidden, "(rule people)"},
		{"/me", good + "x", http.StatusUnauthorized, "(rule people)"},
		{"/ping", good + "x", http.StatusOK, ""},
		{"/forgotten", "", http.StatusForbidden, "no rule lets anybody call this"},
		{"/nowhere", "", http.StatusForbidden, "no rule lets anybody call this"},
	} {
		status, body, challenge := visit(tc.path, tc.token)
		if status != tc.status || !strings.Contains(body, tc.body) || (status == http.StatusUnauthorized) != strings.Contains(challenge, "invalid_token") {
			t.Errorf("%s: %d %q %q, want %d %q", tc.path, status, body, challenge, tc.status, tc.body)
		}
	}
	for _, want := range []string{`"caller":"mtls:spiffe://test/front"`, `"caller":"corp:bob"`, `has the scopes \"write\"`} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	_, page := ask(t, back, http.MethodGet, "/metrics", "")
	for _, want := range []string{
		`plinth_server_auth_refusals_total{reason="scope"} 1`, `plinth_server_auth_refusals_total{reason="no_rule"} 2`,
		`plinth_health_check_up{check="auth keys"} 1`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("metrics do not have %s", want)
		}
	}

	// No secret is anywhere: neither the tokens, nor what the key files hold.
	pages := []string{logs.String(), callerLogs.String()}
	for _, app := range []*frameworktest.App{back, front} {
		for _, path := range []string{"/debug/config", "/debug/clients", "/health", "/metrics", "/info", "/debug/"} {
			_, body := ask(t, app, http.MethodGet, path, "")
			pages = append(pages, body)
		}
	}
	shown := strings.Join(pages, "\n")
	if !strings.Contains(shown, tokenFile) || !strings.Contains(shown, ours.Key) {
		t.Error("the pages do not name the files: this test sees nothing")
	}
	for _, name := range []string{ours.Key, theirs.Key} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(string(b), "\n"); strings.Contains(shown, lines[1]) {
			t.Errorf("the key of %s is shown", name)
		}
	}
	for part := range strings.SplitSeq(good, ".") {
		if strings.Contains(shown, part[len(part)-20:]) {
			t.Errorf("a part of a token is shown: %s", part)
		}
	}

	// Rules are hot: a change counts within a second, a bad one changes nothing.
	b, err := os.ReadFile(policy.path)
	if err != nil {
		t.Fatal(err)
	}
	policy.write(strings.Replace(string(b), "corp:*", "corp:bob", 1))
	within(t, inTheEnd, "the rule without alice", func() bool { status, _, _ := visit("/me", ""); return status == http.StatusForbidden })
	policy.write(strings.Replace(string(b), "corp:*", "crop:*", 1))
	within(t, inTheEnd, "the rejected rule", func() bool {
		_, check := configCheck(back)
		return strings.Contains(check.Error, `server.auth.policy.people.allow: `) && strings.Contains(check.Error, `"crop:*" begins with none of corp: mtls:`)
	})
	if status, _, _ := visit("/me", l.token(t, "bob", "read")); status != http.StatusOK {
		t.Errorf("bob is refused with %d", status)
	}
	policy.write(string(b))
	within(t, inTheEnd, "alice", func() bool { status, _, _ := visit("/me", ""); return status == http.StatusOK })

	// Keys that cannot be read degrade the service, and no more.
	if err := os.WriteFile(l.keys, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, 15*time.Second, "a degraded health", func() bool {
		for _, c := range back.Health().Checks {
			if c.Name == "auth keys" && c.Status == framework.HealthDown && strings.Contains(c.Error, l.keys) && !c.Critical {
				return true
			}
		}
		return false
	})
	if status, _, _ := visit("/me", ""); status != http.StatusOK || back.Health().Status != framework.HealthDegraded {
		t.Errorf("with the keys known before: %d, %s", status, back.Health().Status)
	}
}

// TestWithAuth: a policy in the code turns auth on; the configuration can replace
// its rules by name, and turn it off.
func TestWithAuth(t *testing.T) {
	inCode := framework.WithAuth(auth.Policy{Rules: []auth.Rule{
		{Name: "echo", Methods: []string{"test.v1.Echo/*"}, Allow: []string{auth.Any}},
		{Name: "rest", Methods: []string{"*"}, Allow: []string{auth.Anonymous}},
	}})
	for _, tc := range []struct {
		name     string
		settings map[string]string
		want     codes.Code
		off      bool // is told
	}{
		{"by itself", nil, codes.Unauthenticated, false},
		{"off", map[string]string{"server.auth.mode": "off"}, codes.OK, true},
		{"replaced", map[string]string{"server.auth.policy.echo.methods": "test.v1.Echo/Say", "server.auth.policy.echo.allow": "anonymous"}, codes.OK, false},
		{"before", map[string]string{"server.auth.policy.a.methods": "*/Say", "server.auth.policy.a.allow": "mtls:x"}, codes.Unauthenticated, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			told := make(chan struct{}, 10)
			app := frameworktest.Start(t, "echo", setupEcho(plainEcho), append(settingsOf(tc.settings), inCode, framework.WithEvents(func(e framework.Event) {
				if _, ok := e.(framework.AuthOff); ok {
					told <- struct{}{}
				}
			}))...)
			_, err := say(t.Context(), app.Conn(), "x")
			if middleware.Code(err) != tc.want || (len(told) == 1) != tc.off {
				t.Errorf("%v, told %d times", err, len(told))
			}
			stream, err := app.Conn().NewStream(t.Context(), &echoDesc.Streams[0], "/test.v1.Echo/Repeat")
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			want := codes.Unauthenticated
			if tc.off {
				want = codes.Internal // the stream has no message
			}
			if tc.name == "replaced" {
				want = codes.Internal // by the rule rest
			}
			if err := stream.RecvMsg(nil); middleware.Code(err) != want && (want != codes.Internal || middleware.Code(err) == codes.Unauthenticated) {
				t.Errorf("stream: %v", err)
			}
		})
	}
}

// TestAuthSettings: what does not hold ends the start, with the key and the way out.
func TestAuthSettings(t *testing.T) {
	l := newLogin(t)
	corp := map[string]string{
		"server.auth.mode": "on", "server.auth.issuers.corp.issuer": "https://login.test", "server.auth.issuers.corp.audience": "back",
		"server.auth.issuers.corp.keys": l.keys, "server.auth.policy.all.methods": "*", "server.auth.policy.all.allow": "corp:*",
	}
	for _, tc := range []struct {
		name, key, value string
		want             string // "" = good
	}{
		{"good", "server.auth.mode", "on", ""},
		{"mode", "server.auth.mode", "maybe", "server.auth.mode: "},
		{"no audience", "server.auth.issuers.corp.audience", "", "server.auth.issuers.corp.audience: "},
		{"no keys", "server.auth.issuers.corp.keys", "", "server.auth.issuers.corp.keys: "},
		{"keys that are not there", "server.auth.issuers.corp.keys", "/nowhere.json", "server.auth: build auth: issuer corp: read keys: open /nowhere.json"},
		{"keys over http", "server.auth.issuers.corp.keys", "http://login.test/keys", "use https:"},
		{"password", "server.auth.issuers.corp.keys", "https://a:hunter2@login.test/keys", "has a password in it"},
		{"HS256", "server.auth.issuers.corp.algorithms", "HS256", "server.auth.issuers.corp.algorithms: "},
		{"unknown source", "server.auth.policy.all.allow", "alice", "server.auth.policy.all.allow: "},
		{"no methods", "server.auth.policy.all.methods", "", "server.auth.policy.all.methods: "},
		{"token without TLS", "clients.back.token_file", l.keys, "sent over TLS only"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			settings := maps.Clone(corp)
			settings[tc.key] = tc.value
			app, err := framework.New("echo", setupEcho(plainEcho), append(settingsOf(settings),
				framework.WithConfigFile(""), framework.WithEnviron([]string{"HOME=" + t.TempDir()}), framework.WithLogOutput(t.Output()))...)
			if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("err = %v, want %q", err, tc.want)
			}
			if err == nil {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_ = app.Run(ctx) // closes what New has made
			}
		})
	}
	_, err := framework.New("echo", setupEcho(plainEcho), framework.WithSetting("server.auth.mode", "on"),
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()))
	if err == nil || !strings.Contains(err.Error(), "no rule lets anybody call anything") {
		t.Errorf("no rules: %v", err)
	}
}

// TestAuthWithoutMode: rules that would have no effect are an error where they stand,
// at a start and while the service runs, but for rules that all services share.
func TestAuthWithoutMode(t *testing.T) {
	const rule = "      all: {methods: ['*'], allow: [any]}\n"
	for name, tc := range map[string]struct {
		file string
		want string // "" = good
	}{
		"rules":         {"server:\n  auth:\n    policy:\n" + rule, "plinth.yaml:4: server.auth.mode: is not set, "},
		"an issuer":     {"server: {auth: {issuers: {corp: {issuer: i, audience: [a], keys: /k}}}}\n", "plinth.yaml:1: server.auth.mode: is not set, "},
		"off":           {"server:\n  auth:\n    mode: off\n    policy:\n" + rule, ""},
		"on":            {"server:\n  auth:\n    mode: on\n    policy:\n" + rule, ""},
		"nothing":       {"server: {auth: {}}\n", ""},
		"on, no rules":  {"server:\n  auth:\n    mode: on\n", `plinth.yaml:3: server.auth.mode: "on" checks callers, but no rule lets anybody call anything`},
		"off, no rules": {"server: {auth: {mode: off}}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFile(t, tc.file)
			app, err := framework.New("echo", setupEcho(plainEcho), framework.WithConfigFile(f.path),
				framework.WithEnviron([]string{"HOME=" + t.TempDir()}), framework.WithLogOutput(t.Output()))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("at the start: %v, want %q", err, tc.want)
			}
			if err == nil {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_ = app.Run(ctx) // closes what New has made
			}
		})
	}
	f := newFile(t, "")
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithConfigFile(f.path))
	f.write("server:\n  auth:\n    policy:\n" + rule)
	within(t, inTheEnd, "the rejection", func() bool {
		_, check := configCheck(app)
		return strings.Contains(check.Error, ":4: server.auth.mode: is not set, ") && strings.Contains(check.Error, "set it to on, or to off")
	})
	f.write("server:\n  auth:\n    mode: on\n    policy:\n" + rule) // which a restart would take
	within(t, inTheEnd, "the restart that is needed", func() bool {
		_, check := configCheck(app)
		return check.Error == "" && slices.Contains(debugConfig(t, app).Restart, "server.auth.mode")
	})
}

// TestAuthKeepsRules: a document without any rule is refused as a start would refuse it,
// and the last good rules stay.
func TestAuthKeepsRules(t *testing.T) {
	const good = "server: {auth: {mode: on, policy: {all: {methods: ['*'], allow: [anonymous]}}}}\n"
	f := newFile(t, good)
	app := frameworktest.Start(t, "echo", setupEcho(plainEcho), framework.WithConfigFile(f.path))
	for _, bad := range []string{"server: {auth: {mode: on}}\n", "server: {auth: {mode: off}}\n"} {
		f.write(bad)
		within(t, inTheEnd, "the rejection", func() bool {
			_, check := configCheck(app)
			return strings.Contains(check.Error, "no rule lets anybody call anything")
		})
		if _, err := say(t.Context(), app.Conn(), "x"); err != nil {
			t.Errorf("with the last good rules: %v", err)
		}
		if got := debugConfig(t, app).Reload.Outcome; got != "rejected" {
			t.Errorf("the reload is %s", got)
		}
		f.write(good)
		within(t, inTheEnd, "the good rules", func() bool { _, check := configCheck(app); return check.Error == "" })
	}
}

// TestAuthOnOnePort: who has a certificate is known over every protocol that one
// port speaks.
func TestAuthOnOnePort(t *testing.T) {
	ca := tlstest.NewAuthority(t, "ca")
	ours := tlstest.NewDir(t, t.TempDir(), ca.PEM(), ca.Issue(t, "front"))
	theirs := tlstest.NewDir(t, t.TempDir(), ca.PEM(), ca.Issue(t, "back"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app, err := framework.New("back", func(ctx context.Context, s *framework.Service) error {
		s.Handle("GET /who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto+" "+middleware.Caller(r.Context()))
		}))
		return setupEcho(echo{say: func(ctx context.Context, _ string) (string, error) { return middleware.Caller(ctx), nil }})(ctx, s)
	}, append(settingsOf(map[string]string{
		"server.admin.addr": "127.0.0.1:0", "server.drain.delay": "0s",
		"server.tls.cert_file": theirs.Cert, "server.tls.key_file": theirs.Key, "server.tls.client_ca_file": theirs.CA, "server.auth.mode": "on",
		"server.auth.policy.all.methods": "*", "server.auth.policy.all.allow": "mtls:front",
	}), framework.WithListener("grpc", l), framework.WithListener("http", l),
		framework.WithConfigFile(""), framework.WithEnviron([]string{"HOME=" + t.TempDir()}), framework.WithLogOutput(t.Output()))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-app.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	addr := app.Endpoints()["http"]
	if addr != app.Endpoints()["grpc"] {
		t.Fatalf("there are two ports: %v", app.Endpoints())
	}
	m, err := tlsfiles.Read(tlsfiles.Files{CA: ours.CA, Cert: ours.Cert, Key: ours.Key})
	if err != nil {
		t.Fatal(err)
	}
	secure := func() *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "back", RootCAs: m.Roots, Certificates: []tls.Certificate{*m.Certificate}}
	}
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: secure(), ForceAttemptHTTP2: h2}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + addr + "/who")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2] + " mtls:front"; string(b) != want {
			t.Errorf("%d %s, want %s", resp.StatusCode, b, want)
		}
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(secure())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if who, err := say(t.Context(), conn, "x"); who != "mtls:front" || err != nil {
		t.Errorf("gRPC: %q, %v", who, err)
	}
}
