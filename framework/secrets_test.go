package framework_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"plinth.internal/config"
	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/health"
)

// TestPasswordsInAddresses: where a password in an address would be shown it is
// refused, with the place and the way to say it right, and without being shown.
func TestPasswordsInAddresses(t *testing.T) {
	const (
		addr = "http://u:pwsecret@127.0.0.1:1"
		bare = "u:pwsecret@127.0.0.1:1"
	)
	for _, tc := range []struct{ key, value, want string }{
		{"registry.endpoints", addr, "give registry.username and registry.password instead"},
		{"registry.endpoints", "127.0.0.1:1," + bare, "give registry.username and registry.password instead"},
		{"registry.endpoints", "u:pw/secret@127.0.0.1", "give registry.username"},
		{"registry.dns.server", bare, "registry.dns.server"},
		{"registry.dns.name", bare, "registry.dns.name"},
		{"registry.static.billing", addr, "give host:port alone"},
		{"telemetry.trace.endpoint", addr, "in OTEL_EXPORTER_OTLP_HEADERS instead"},
		{"telemetry.trace.endpoint", "grpc://token-pwsecret@127.0.0.1", "in OTEL_EXPORTER_OTLP_HEADERS instead"},
		{"clients.billing.target", "dns://u:pwsecret@127.0.0.1/billing:1", "token_file"},
		{"clients.billing.target", "dns:///" + bare, "token_file"},
		{"clients.billing.target", "passthrough:" + bare, "token_file"},
		{"server.grpc.addr", addr, "is not an address"},
		{"server.http.cors.origins", addr, "is no origin"},
		{"server.auth.issuers.corp.keys", addr, "has a password in it"},
	} {
		opts := []framework.Option{framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()), framework.WithSetting(tc.key, tc.value)}
		if tc.key == "registry.dns.server" {
			opts = append(opts, framework.WithSetting("registry.kind", "dns"))
		}
		_, err := framework.New("front", func(context.Context, *framework.Service) error { return nil }, opts...)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "flag --"+tc.key) && tc.key != "server.auth.issuers.corp.keys" {
			t.Errorf("%s=%s: %v, want the flag and %q", tc.key, tc.value, err, tc.want)
			continue
		}
		for _, secret := range []string{"pwsecret", "pw/secret"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s=%s: the password is shown: %v", tc.key, tc.value, err)
			}
		}
	}
}

// urls is a service's section with an address that it needs with its password.
type urls struct {
	Database string `yaml:"database"`
}

// TestSecretsAreNotShown runs an app with something secret in every URL that may
// have it, and looks for it wherever anything is shown.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "pwsecret"
	f := newFile(t, `
telemetry: {log: {level: debug}, trace: {endpoint: "http://127.0.0.1:1/v1/traces?token=pwsecret"}}
server:
  auth: {mode: "off", issuers: {corp: {issuer: "https://corp", audience: [front], keys: "http://127.0.0.1:1/keys?key=pwsecret"}}, policy: {all: {methods: ["*"], allow: [any]}}}
clients: {billing: {target: "xds:///billing?key=pwsecret"}}
app: {database: "postgres://u:pwsecret@127.0.0.1:1/app?password=pwsecret"}
`)
	var logs lockedBuffer
	app := frameworktest.Start(t, "front", func(_ context.Context, s *framework.Service) error {
		own, err := config.Bind(s.Config(), "app", urls{})
		if err != nil {
			return err
		}
		s.Check("database", func(context.Context) error { return errors.New("dial " + own.Database + ": refused") }, health.Dependency())
		return nil
	}, framework.WithConfigFile(f.path), framework.WithLogOutput(&logs))
	within(t, inTheEnd, "the check that fails", func() bool {
		_, body := ask(t, app, http.MethodGet, "/health", "")
		return strings.Contains(body, "postgres://u:***@127.0.0.1:1")
	})
	look := func(when string) {
		t.Helper()
		for _, path := range []string{"/health", "/health/live", "/info", "/metrics", "/debug/config", "/debug/clients", "/debug/lifecycle", "/debug/limit"} {
			if _, body := ask(t, app, http.MethodGet, path, ""); strings.Contains(body, secret) {
				t.Errorf("%s: %s shows it:\n%s", when, path, body)
			}
		}
		for line := range strings.Lines(logs.String()) {
			if strings.Contains(line, secret) {
				t.Errorf("%s: the log shows it: %s", when, line)
			}
		}
	}
	look("at the start")
	doc := debugConfig(t, app)
	for key, want := range map[string]string{
		"telemetry.trace.endpoint":      "http://127.0.0.1:1/v1/traces?token=***",
		"server.auth.issuers.corp.keys": "http://127.0.0.1:1/keys?key=***",
		"app.database":                  "postgres://u:***@127.0.0.1:1/app?password=***",
	} {
		if got := doc.Values[key].Value; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}

	f.write("registry: {endpoints: [\"http://u:pwsecret@127.0.0.1:1\"]}\ntelemetry: {trace: {endpoint: \"http://u:pwsecret@127.0.0.1:1\"}}\n")
	within(t, inTheEnd, "the rejection", func() bool {
		_, check := configCheck(app)
		return strings.Contains(check.Error, "registry.username") && strings.Contains(check.Error, "OTEL_EXPORTER_OTLP_HEADERS")
	})
	within(t, inTheEnd, "its log line", func() bool { return strings.Contains(logs.String(), "configuration rejected") })
	look("after a bad reload")
}
