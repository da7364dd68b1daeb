package framework

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/server"
)

// TestLintRules: every rule finds what it is for and nothing else, and is silent
// where all is well.
func TestLintRules(t *testing.T) {
	const outside = "[::]:9000"
	entry := func(key, value string) config.Entry {
		return config.Entry{Key: key, Value: value, Source: config.Source{Kind: config.KindFile, Name: "plinth.yaml", Line: 3}}
	}
	rules := map[string]faultRuleSettings{"typo": {Method: "a.B/X", Hang: true}}
	policy := map[string]ruleSettings{"all": {Methods: []string{"*"}, Allow: []string{"any"}}}
	for _, tc := range []struct {
		name  string
		facts func(l *lintFacts)
		want  []string // severity and rule
	}{
		{"nothing said", func(*lintFacts) {}, nil},
		{"plain listeners", func(l *lintFacts) { l.endpoints[server.GRPC] = outside }, []string{"warning server-tls-off"}},
		{"plain listener on loopback", func(l *lintFacts) { l.endpoints[server.GRPC] = "127.0.0.1:9000" }, nil},
		{"listeners with TLS", func(l *lintFacts) {
			l.endpoints[server.GRPC] = outside
			l.settings.Server.TLS = serverTLSSettings{CertFile: "c", KeyFile: "k"}
		}, nil},
		{"permissive", func(l *lintFacts) {
			l.endpoints[server.GRPC] = outside
			l.settings.Server.TLS = serverTLSSettings{Mode: tlsPermissive, CertFile: "c", KeyFile: "k"}
		}, []string{"note server-tls-permissive"}},
		{"plain clients", func(l *lintFacts) {
			l.shared, l.entries = true, []config.Entry{entry("clients.default.tls.mode", "insecure"), entry("clients.a.tls.mode", "mtls"), entry(keyTLSMode, "insecure")}
		}, []string{"warning client-tls-off"}},
		{"plain clients of this machine", func(l *lintFacts) { l.entries = []config.Entry{entry("clients.default.tls.mode", "insecure")} }, nil},
		{"certificates", func(l *lintFacts) {
			now := time.Now()
			l.certs = []lintCertificate{
				{"server.tls.cert_file", now.Add(time.Hour), now.Add(-time.Minute)}, {"clients.a.tls.cert_file", now.Add(-time.Second), now.Add(-time.Minute)},
				{"clients.b.tls.cert_file", now.Add(time.Hour), now.Add(time.Minute)}, {key: "clients.c.tls.cert_file"},
			}
		}, []string{"error certificate-expires", "warning certificate-expires"}},
		{"debug for all", func(l *lintFacts) {
			l.settings.Server.Admin.Debug, l.endpoints[server.Admin] = server.DebugAll, outside
		}, []string{"error debug-open"}},
		{"debug for all of this machine", func(l *lintFacts) {
			l.settings.Server.Admin.Debug, l.endpoints[server.Admin] = server.DebugAll, "127.0.0.1:9100"
		}, nil},
		{"debug for loopback", func(l *lintFacts) { l.endpoints[server.Admin] = outside }, nil},
		{"rules in the configuration, mode unsaid", func(l *lintFacts) { l.settings.Server.Auth.Policy = policy }, []string{"error auth-off"}},
		{"rules in the code, mode off", func(l *lintFacts) { l.policy, l.settings.Server.Auth.Mode = true, authOff }, []string{"error auth-off"}},
		{"rules in both, mode unsaid", func(l *lintFacts) { l.policy, l.settings.Server.Auth.Policy = true, policy }, nil},
		{"rules in the configuration, mode on", func(l *lintFacts) {
			l.settings.Server.Auth = authSettings{Mode: authOn, Policy: policy}
		}, nil},
		{"faults", func(l *lintFacts) { l.settings.Server.Fault.Allow = true }, []string{"warning faults-allowed"}},
		{"faults by header", func(l *lintFacts) { l.settings.Server.Fault = faultSettings{Allow: true, Headers: true} }, []string{"error faults-allowed", "warning faults-allowed"}},
		{"a fault for nobody", func(l *lintFacts) {
			l.settings.Server.Fault = faultSettings{Allow: true, Rules: rules}
			l.unserved = []MethodUnserved{{Key: "server.fault.rules.typo.method", Method: "a.B/X"}}
		}, []string{"warning faults-allowed", "warning method-unserved"}},
		{"no limit", func(l *lintFacts) { l.settings.Server.Limit.Enabled = false }, []string{"warning limit-off"}},
		{"a fixed limit", func(l *lintFacts) { l.settings.Server.Limit = limitSettings{Max: 10} }, nil},
		{"no deadlines", func(l *lintFacts) {
			l.entries = []config.Entry{
				entry("clients.a.timeout", "-1s"), entry("clients.b.methods.List.timeout", "-1ns"), entry("clients.c.timeout", "3s"),
				entry("clients.d.timeout", "0s"), entry("clients.e.attempt_timeout", "-1s"), entry("server.http.read_timeout", "-1s"),
			}
		}, []string{"warning client-no-deadline", "warning client-no-deadline"}},
		{"hedges without attempts", func(l *lintFacts) {
			l.settings.Clients = map[string]clientSettings{
				defaultClient: {callSettings: callSettings{Hedge: hedgeSettings{Enabled: toggleOn}}},
				"a":           {callSettings: callSettings{Retry: retrySettings{MaxAttempts: 1}}},
			}
		}, []string{"warning hedge-in-vain"}},
		{"no critical check", func(l *lintFacts) { l.checks = []health.Result{{Name: "db"}, {Name: "billing", Dependency: true}} }, []string{"note no-critical-check"}},
		{"a critical check", func(l *lintFacts) { l.checks = []health.Result{{Name: "cache"}, {Name: "db", Critical: true}} }, nil},
		{"checks that should not be critical", func(l *lintFacts) {
			l.checks = []health.Result{{Name: "billing", Dependency: true}, {Name: keysCheck}, {Name: "search", Services: []string{"a.B"}}}
		}, nil},
		{"no snapshots", func(l *lintFacts) { l.snapshots = false }, []string{"warning snapshots-off"}},
		{"registry required", func(l *lintFacts) { l.settings.Registry.Required = true }, []string{"note registry-required"}},
		{"in a pod", func(l *lintFacts) { l.kubernetes = true }, []string{"note drain-grace"}},
		{"in a pod, with a short drain", func(l *lintFacts) { l.kubernetes, l.settings.Server.Drain.Timeout = true, 20*time.Second }, nil},
		{"no place for dumps", func(l *lintFacts) { l.dumps = errors.New("read-only file system") }, []string{"warning dump-dir"}},
		{"a cold key changed", func(l *lintFacts) { l.status.Restart = []string{"server.grpc.addr"} }, []string{"warning restart-needed"}},
		{"a stray key", func(l *lintFacts) { l.status.Ignored = []config.Entry{entry("clinets.a.timeout", "")} }, []string{"note keys-ignored"}},
		{"debug log", func(l *lintFacts) { l.logLevel = "debug" }, []string{"note log-debug"}},
		{"all traced, much", func(l *lintFacts) { l.settings.Telemetry.Trace.Endpoint, l.rate = "http://c:4318", 501 }, []string{"note trace-all"}},
		{"all traced, little", func(l *lintFacts) { l.settings.Telemetry.Trace.Endpoint, l.rate = "http://c:4318", 499 }, nil},
		{"some traced, much", func(l *lintFacts) {
			l.settings.Telemetry.Trace = traceSettings{Endpoint: "http://c:4318", Sample: 0.5}
			l.rate = 501
		}, nil},
		{"all traced, nowhere to", func(l *lintFacts) { l.rate = 501 }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &lintFacts{settings: defaultSettings(), endpoints: map[string]string{}, logLevel: "info", snapshots: true}
			tc.facts(l)
			var got []string
			for _, f := range l.find() {
				got = append(got, f.Severity+" "+f.Rule)
				if f.What == "" || f.Why == "" || f.Fix == "" {
					t.Errorf("%+v does not say all", f)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTryDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		dir: true, filepath.Join(dir, "new", "below"): true, file: false, filepath.Join(file, "below"): false, "/proc/none": false,
	} {
		if err := tryDir(path); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
