package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"plinth.internal/config"
)

// FuzzReload: a reload takes what a start would take. Either the hot values are
// then those of a start, or it errs as the start would, and nothing changed.
func FuzzReload(f *testing.F) {
	for _, file := range []string{
		"", "limits: {low: 3}\n", "limits: {low: 30}\n", "limits: {low: 30, high: 40}\n", "clients: {a: {methods: {Get: {timeout: 1s}}}}\n",
		"clients.a.timeout: 1s\n", "tokens: {a.b: c}\n", "limits: {low: x}\n", "other: 1\n", "limits:\n", "limits: 1\n", "static: {x: [y]}\naddr: z\n",
	} {
		f.Add("addr: :1\nlimits: {low: 2}\n", file, "PLINTH_CLIENTS_A_TIMEOUT=1s")
		f.Add(file, "clients: {a: {balancer: x}}\n", "PLINTH_CLIENTS_A_METHODS_GET_TIMEOUT=1s")
	}
	path := filepath.Join(f.TempDir(), "app.yaml")
	f.Fuzz(func(t *testing.T, first, second, env string) {
		start := func(content string) (*config.Config, *config.Value[shop], error) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(config.WithFile(path, true), config.WithEnviron([]string{env}))
			if err != nil {
				return nil, nil, err
			}
			v, err := config.Watch(c, "", defaultShop())
			if err == nil {
				err = c.Unused()
			}
			return c, v, err
		}
		c, v, err := start(first)
		if err != nil {
			return
		}
		before, entries := v.Get(), c.Entries()
		_, fresh, want := start(second)
		change, got := c.Reload()
		if got != nil {
			if now := v.Get(); !reflect.DeepEqual(now, before) || !reflect.DeepEqual(c.Entries(), entries) {
				t.Errorf("rejected and yet changed: %+v", now)
			}
			// What stands beside the cold values of the start may not be usable.
			if want == nil && before.Limits.High == fresh.Get().Limits.High {
				t.Errorf("a reload of what a start takes: %v", got)
			}
			return
		}
		if want != nil {
			t.Fatalf("a reload takes what a start does not: %v", want)
		}
		now, restarted := v.Get(), fresh.Get()
		if now.Limits.Low != restarted.Limits.Low || !reflect.DeepEqual(now.Clients, restarted.Clients) || !reflect.DeepEqual(now.Tokens, restarted.Tokens) {
			t.Errorf("%+v after a reload, %+v after a start", now, restarted)
		}
		if now.Addr != before.Addr || now.DSN != before.DSN || now.Limits.High != before.Limits.High || !reflect.DeepEqual(now.Static, before.Static) {
			t.Errorf("a cold value changed: %+v, before %+v", now, before)
		}
		if len(change.Restart) == 0 && now.Addr != restarted.Addr {
			t.Errorf("addr changed to %q and nobody is told", restarted.Addr)
		}
	})
}
