package framework

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"plinth.internal/middleware/auth"
)

// TestEffectiveValues: where a value stands for something else, /debug/config says
// for what.
func TestEffectiveValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plinth.yaml")
	document := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	document(`
server:
  http: {cors: {origins: ["https://shop.example.com"], headers: [X-Mine]}}
  auth: {issuers: {corp: {issuer: "https://corp", audience: [front], keys: "http://127.0.0.1:1/keys"}}}
  limit: {rate: {few: {rps: 2.5}, some: {rps: 9, burst: 1}}}
  fault: {allow: true, rules: {late: {delay: 1s}}}
clients:
  default: {timeout: 2s, balancer: round_robin}
  billing:
    retry: {max_attempts: 2}
    methods: {Charge: {retry: {backoff: 1ms}}}
    routes: {canary: {to: {version: v2}}}
`)
	app, err := New("front", func(context.Context, *Service) error { return nil }, WithConfigFile(path), WithEnviron(nil), WithLogOutput(t.Output()),
		WithSetting("server.grpc.addr", "127.0.0.1:0"), WithSetting("server.admin.addr", ""), WithSetting("server.drain.delay", "0s"),
		WithAuth(auth.Policy{Rules: []auth.Rule{{Name: "all", Methods: []string{"*"}, Allow: []string{"any"}}}}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := app.Run(ctx); err != nil { // which ends what New has begun
			t.Error(err)
		}
	}()
	check := func(key, value, effective string) {
		t.Helper()
		if v, ok := app.configuration().Values[key]; !ok || v.Value != value || v.Effective != effective {
			t.Errorf("%s is %+v (known: %v), want %q and effectively %q", key, v, ok, value, effective)
		}
	}
	check("registry.kind", "", "static")
	check("registry.snapshot_dir", "", "off")
	check("config.source", "", "none")
	check("telemetry.log.format", "auto", "json")
	check("server.auth.mode", "", "on")
	check("server.auth.issuers.corp.refresh", "0s", "5m0s")
	check("server.auth.issuers.corp.algorithms", "", "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA")
	check("server.auth.issuers.corp.audience", "front", "")
	check("server.tls.mode", "", "insecure")
	check("server.drain.dump_dir", "", filepath.Join(os.TempDir(), "plinth-front"))
	check("server.http.cors.methods", "", "GET,HEAD,POST,PUT,PATCH,DELETE")
	check("server.http.cors.headers", "X-Mine", "")
	check("server.limit.rate.few.burst", "0", "3")
	check("server.limit.rate.some.burst", "1", "")
	check("server.fault.rules.late.percent", "", "100")
	check("clients.default.balancer", "round_robin", "")
	check("clients.billing.balancer", "", "round_robin")
	check("clients.billing.timeout", "0s", "2s")
	check("clients.billing.target", "", "registry")
	check("clients.billing.retry.max_attempts", "2", "")
	check("clients.billing.breaker", "", "adaptive")
	check("clients.billing.subset.size", "", "20")
	check("clients.billing.ejection.enabled", "", "true")
	check("clients.billing.routes.canary.fallback", "", "any")
	check("clients.billing.routes.canary.match.percent", "", "100")
	check("clients.billing.methods.Charge.retry.max_attempts", "0", "2")
	check("clients.billing.methods.Charge.hedge.enabled", "", "false")
	check("telemetry.trace.endpoint", "", "")

	document("clients: {billing: {timeout: 1s, http: {max_connections: -1}}}\nserver: {fault: {allow: true}}\n")
	if _, err := app.cfg.Reload(); err != nil {
		t.Fatal(err)
	}
	check("clients.billing.timeout", "1s", "")
	check("clients.billing.balancer", "", "adaptive")
	check("clients.billing.http.max_connections", "-1", "")
}
