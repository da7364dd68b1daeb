package framework

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
	"plinth.internal/client/subset"
	"plinth.internal/config"
)

// bindSettings binds the framework's settings from the text of a file.
func bindSettings(t *testing.T, text string) (settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plinth.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.WithFile(path, true))
	if err != nil {
		t.Fatal(err)
	}
	return config.Bind(c, "", defaultSettings())
}

// TestClientTable resolves the levels of the section clients.
func TestClientTable(t *testing.T) {
	s, err := bindSettings(t, `
clients:
  default:
    timeout: 2s
    balancer: round_robin
    breaker: classic
    classic: {min_calls: 7}
    ejection: {enabled: false, base: 90s}
    hedge: {enabled: true, delay: 10ms}
    methods:
      Slow: {timeout: 9s}
      Fenced: {classic: {trials: 1}}
  billing:
    timeout: 1s
    attempt_timeout: 300ms
    connect_timeout: 200ms
    http: {max_connections: 32}
    retry: {max_attempts: 2, backoff: 5ms, max_backoff: 50ms}
    balancer: consistent_hash
    hash_header: x-user
    ejection: {enabled: true, consecutive: 3, min_calls: 4, failure_share: 0.4, worse: 0.2, max: 120s, max_ejected: 0.3}
    methods:
      Charge: {breaker: "off", hedge: {enabled: false}, retry: {max_attempts: 1}}
      Fenced: {timeout: 4s}
`)
	if err != nil {
		t.Fatal(err)
	}
	all := client.Settings{
		Timeout: 2 * time.Second, ConnectTimeout: client.DefaultConnectTimeout, Balancer: balancer.NameRoundRobin, Retry: retry.Policy{}.WithDefaults(),
		MaxConnections: client.DefaultMaxConnections,
		ZoneFactor:     balancer.DefaultAwayFactor, Subset: subset.Config{}.WithDefaults(),
		Hedge:    retry.HedgePolicy{Enabled: true, Delay: 10 * time.Millisecond},
		Breaker:  breaker.Config{Policy: breaker.PolicyClassic, MinCalls: 7}.WithDefaults(),
		Ejection: outlier.Config{Off: true, Base: 90 * time.Second}.WithDefaults(),
	}
	billing := all
	billing.Timeout, billing.AttemptTimeout, billing.ConnectTimeout = time.Second, 300*time.Millisecond, 200*time.Millisecond
	billing.MaxConnections = 32
	billing.Retry = retry.Policy{MaxAttempts: 2, Backoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond}
	billing.Balancer, billing.HashHeader = balancer.NameConsistentHash, "x-user"
	billing.Ejection = outlier.Config{Consecutive: 3, MinCalls: 4, FailureShare: 0.4, Worse: 0.2, Base: 90 * time.Second, Max: 2 * time.Minute, MaxEjected: 0.3}
	with := func(s client.Settings, change func(*client.Settings)) client.Settings {
		change(&s)
		return s
	}
	fence := func(s *client.Settings) { s.OwnBreaker, s.Breaker.Trials = true, 1 }
	table := newClientTable(s.Clients)
	for _, tc := range []struct {
		service, method string
		want            client.Settings
	}{
		{"users", "", all},
		{"users", "Get", all},
		{"users", "Slow", with(all, func(s *client.Settings) { s.Timeout, s.StreamTimeout = 9*time.Second, 9*time.Second })},
		{"users", "Fenced", with(all, fence)},
		{"billing", "", billing},
		{"billing", "Get", billing},
		// The service's own timeout is above that of a method anywhere, but is not for streams.
		{"billing", "Slow", with(billing, func(s *client.Settings) { s.StreamTimeout = 9 * time.Second })},
		{"billing", "Fenced", with(with(billing, fence), func(s *client.Settings) { s.Timeout, s.StreamTimeout = 4*time.Second, 4*time.Second })},
		{"billing", "Charge", with(billing, func(s *client.Settings) {
			s.OwnBreaker, s.Breaker.Policy, s.Hedge.Enabled, s.Retry.MaxAttempts = true, breaker.PolicyOff, false, 1
		})},
	} {
		got := table.settings(tc.service, tc.method)
		if got != tc.want {
			t.Errorf("%s/%s:\n%+v, want\n%+v", tc.service, tc.method, got, tc.want)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s/%s: %v", tc.service, tc.method, err)
		}
	}
	if got := newClientTable(nil).settings("users", "Get"); got != client.DefaultSettings() {
		t.Errorf("without settings: %+v", got)
	}
	if got := withDefaults(client.Settings{}); got != client.DefaultSettings() {
		t.Errorf("the defaults are %+v, the client's %+v", got, client.DefaultSettings())
	}
}

// TestClientSettingsErrors: what is wrong is named by its key, and what only
// does not fit together by its levels.
func TestClientSettingsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: {balancer: fast}":                                                 `clients.a.balancer: "fast" is none of adaptive, consistent_hash`,
		"a: {hash_header: 'x user'}":                                          `clients.a.hash_header: "x user" is not a name of a header`,
		"a: {breaker: open}":                                                  `clients.a.breaker: "open" is none of adaptive, classic, off`,
		"a: {methods: {M: {breaker: open}}}":                                  `clients.a.methods.M.breaker: "open" is none of`,
		"a: {methods: {M: {balancer: random}}}":                               `clients.a.methods.M.balancer: is not a known key`,
		"a: {attempt_timeout: -1s}":                                           `clients.a.attempt_timeout: "-1s" is below zero`,
		"a: {retry: {max_attempts: 11}}":                                      `clients.a.retry.max_attempts: "11" is not from 1 to 10`,
		"a: {retry: {backoff: -1s}}":                                          `clients.a.retry.backoff: "-1s" is below zero`,
		"a: {retry: {max_backoff: -1s}}":                                      `clients.a.retry.max_backoff: "-1s" is below zero`,
		"a: {hedge: {delay: -1s}}":                                            `clients.a.hedge.delay: "-1s" is below zero`,
		"a: {hedge: {enabled: maybe}}":                                        `clients.a.hedge.enabled: "maybe" is not usable: want true or false`,
		"a: {classic: {failure_share: 2}}":                                    `clients.a.classic.failure_share: "2" is not a share between 0 and 1`,
		"a: {classic: {min_calls: -1}}":                                       `clients.a.classic.min_calls: "-1" is below zero`,
		"a: {classic: {open_for: -1s}}":                                       `clients.a.classic.open_for: "-1s" is below zero`,
		"a: {classic: {trials: -1}}":                                          `clients.a.classic.trials: "-1" is below zero`,
		"a: {zone_factor: 0.9}":                                               `clients.a.zone_factor: "0.9" is not a factor from 1 on`,
		"a: {zone_factor: .inf}":                                              `clients.a.zone_factor: ".inf"`,
		"a: {subset: {size: 9}}":                                              `clients.a.subset.size: "9" is below 10, and not 0 for all instances`,
		"a: {subset: {size: -1}}":                                             `clients.a.subset.size: "-1" is not usable: want a number of instances`,
		"a: {subset: {above: 0}}":                                             `clients.a.subset.above: "0" is not usable: want a number of instances from 1 on`,
		"a: {subset: {above: -1}}":                                            `clients.a.subset.above: "-1" is below zero`,
		"a: {ejection: {consecutive: -1}}":                                    `clients.a.ejection.consecutive: "-1" is below zero`,
		"a: {ejection: {min_calls: -1}}":                                      `clients.a.ejection.min_calls: "-1" is below zero`,
		"a: {ejection: {failure_share: .nan}}":                                `clients.a.ejection.failure_share: ".nan"`,
		"a: {ejection: {worse: NaN}}":                                         `clients.a.ejection.worse: "NaN" is not a share between 0 and 1`,
		"a: {ejection: {base: -1s}}":                                          `clients.a.ejection.base: "-1s" is below zero`,
		"a: {ejection: {max: -1s}}":                                           `clients.a.ejection.max: "-1s" is below zero`,
		"a: {ejection: {max_ejected: 1.1}}":                                   `clients.a.ejection.max_ejected: "1.1" is not a share`,
		"{default: {ejection: {base: 9s}}, a: {ejection: {max: 2s}}}":         `clients.a, with what it has from less specific levels: set Ejection.Max to 2s: must not be less than Ejection.Base`,
		"a: {methods: {M: {classic: {trials: 1000000}}}, breaker: 'classic'}": `clients.a.methods.M, with what it has from less specific levels: set Breaker.Trials to 1000000`,
	} {
		_, err := bindSettings(t, "clients:\n  "+strings.ReplaceAll(text, "\n", "\n  ")+"\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
}
