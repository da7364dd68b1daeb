package config_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"plinth.internal/config"
)

// FuzzFeed: whatever the documents hold, each is taken wholly or not at all, cold
// values stay, and nothing hangs or panics. What is in use could have been given by
// a file.
func FuzzFeed(f *testing.F) {
	for _, text := range []string{
		"", "limits: {low: 3}\n", "limits: {low: 30}\n", "limits: {high: 40}\n", "clients: {a: {methods: {Get: {timeout: 1s}}}}\n", "other: {x: 1}\n",
		"clients.a.timeout: 1s\n", "tokens: {a.b: c}\n", "limits: {low: x}\n", "limits:\n", "limits: 1\n", "static: {x: [y]}\naddr: z\n", "a: &a {b: *a}\n", "\xff",
	} {
		f.Add(text, "limits: {low: 5}\n")
		f.Add("clients: {a: {balancer: x}}\n", text)
	}
	path := filepath.Join(f.TempDir(), "app.yaml")
	if err := os.WriteFile(path, []byte("addr: :1\nlimits: {low: 2}\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, shared, service string) {
		c, err := config.Load(config.WithFile(path, true), config.WithEnviron([]string{"PLINTH_CLIENTS_A_TIMEOUT=1s"}))
		if err != nil {
			t.Fatal(err)
		}
		v, err := config.Watch(c, "", defaultShop())
		if err != nil {
			t.Fatal(err)
		}
		before := v.Get()
		feed := newFeed()
		if err := c.Attach(config.Central{Feed: feed, Sections: []string{"limits", "clients"}}); err != nil {
			t.Fatal(err)
		}
		c.Settle(t.Context(), nil)
		for i, text := range []string{shared, service} {
			last, entries := v.Get(), c.Entries()
			feed.write(i, text)
			_, err := c.Reload()
			now := v.Get()
			if c.Status().Documents[i].Err != nil {
				if err == nil || !reflect.DeepEqual(now, last) || !reflect.DeepEqual(c.Entries(), entries) {
					t.Errorf("%q is rejected (%v) and yet changed it: %+v", text, err, now)
				}
			}
			if now.Addr != before.Addr || now.DSN != before.DSN || now.Limits.High != before.Limits.High || !reflect.DeepEqual(now.Static, before.Static) {
				t.Errorf("%q changed a cold value: %+v", text, now)
			}
			if err := now.Validate(); err != nil {
				t.Errorf("%q: what is in use is not valid: %v", text, err)
			}
			if _, parsed := config.ParseDocument("x", []byte(text)); parsed != nil && c.Status().Documents[i].Err == nil {
				t.Errorf("%q is in use, and no document: %v", text, parsed)
			}
		}
	})
}

// writeSnapshot writes a snapshot with the checksum that belongs to it.
func writeSnapshot(t testing.TB, path string, documents any) {
	t.Helper()
	inner, err := json.Marshal(documents)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(inner)
	outer, err := json.Marshal(map[string]any{"sha256": hex.EncodeToString(sum[:]), "documents": json.RawMessage(inner)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, outer, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzSnapshot: whatever a snapshot holds, the process starts, with something that
// is valid.
func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(`[{"name":"feed own","revision":3,"at":"2026-01-02T03:04:05Z","data":"bGltaXRzOiB7bG93OiA3fQo="}]`), true)
	f.Add([]byte(`[{"name":"feed own","at":null}]`), true)
	f.Add([]byte(`{"sha256":"","documents":[]}`), false)
	path := filepath.Join(f.TempDir(), "orders.json")
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if sealed && json.Valid(data) {
			writeSnapshot(t, path, json.RawMessage(data))
		} else if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load()
		if err != nil {
			t.Fatal(err)
		}
		v, err := config.Watch(c, "", defaultShop())
		if err != nil {
			t.Fatal(err)
		}
		feed := newFeed()
		feed.fail(all, config.ErrUnreachable)
		feed.fail(own, config.ErrUnreachable)
		if err := c.Attach(config.Central{Feed: feed, Snapshot: path}); err != nil {
			t.Fatal(err)
		}
		c.Settle(t.Context(), nil)
		now := v.Get()
		if err := now.Validate(); err != nil {
			t.Errorf("what is in use is not valid: %v", err)
		}
		if now.Addr != ":1" {
			t.Errorf("a snapshot changed a cold value: %+v", now)
		}
	})
}
