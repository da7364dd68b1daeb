package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/config"
)

// begin is a process that starts with a snapshot file, and what it then has.
func begin(t *testing.T, f *feed, snapshot string) (*config.Config, *config.Value[shop], *collect) {
	t.Helper()
	d := newDoc(t, "limits: {low: 2}\n")
	c, v := watch(t, d, "", defaultShop())
	return c, v, central(t, c, f, snapshot)
}

// TestSnapshot starts one process after the other on the same file.
func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "some", "orders.json")
		// One that never had a document keeps nothing.
		begin(t, newFeed(), path)
		pass(settle)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a snapshot of nothing: %v", err)
		}
		f := newFeed("limits: {low: 3}\n", "clients: {a: {timeout: 1s}}\n")
		begin(t, f, path)
		pass(time.Millisecond)
		f.write(own, "clients: {a: {timeout: 2s}}\n")
		pass(settle)
		f.write(own, "clients: {a: {timeout: bad}}\n")
		pass(settle)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the file's mode is %v", info.Mode())
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(left) > 0 || err != nil {
			t.Errorf("left over: %q", left)
		}

		saved, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := newFeed("limits: {low: 4}\n", "clients: {a: {timeout: bad}}\n")
		down := newFeed()
		down.fail(all, config.ErrUnreachable)
		down.fail(own, config.ErrUnreachable)
		for _, tt := range []struct {
			name   string
			feed   *feed
			low    int
			err    string
			events []string
		}{
			{"a bad document", bad, 4, `"bad" is not a duration, want one with a unit such as 500ms, 2s or 1m30s; in use is revision 3, kept on disk since 2000-01-01`,
				[]string{"FellBack 1", "Applied [clients.a.balancer clients.a.retry.max_attempts clients.a.timeout limits.low] [feed all (revision 1)]"}},
			{"no answer", down, 3, "kept on disk since", []string{"FellBack 2"}},
		} {
			if err := os.WriteFile(path, saved, 0o600); err != nil { // as the first process left it
				t.Fatal(err)
			}
			c, v, events := begin(t, tt.feed, path)
			if got := v.Get(); got.Limits.Low != tt.low || got.Clients["a"].Timeout != 2*time.Second {
				t.Errorf("%s: %+v", tt.name, got)
			}
			if err := c.Status().Err; err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
			}
			if got := events.told(); len(got) != len(tt.events) || got[0] != tt.events[0] {
				t.Errorf("%s: events %q, want %q", tt.name, got, tt.events)
			}
			if s := c.Status().Documents[own]; s.Revision != 3 || s.Kept.IsZero() || s.Err == nil {
				t.Errorf("%s: %+v", tt.name, s)
			}
			// It is taken as soon as it can be had.
			pass(time.Millisecond)
			tt.feed.write(all, "limits: {low: 4}\n")
			tt.feed.write(own, "clients: {a: {timeout: 2s}}\n")
			pass(settle)
			if err := c.Status().Err; err != nil || !c.Status().Documents[own].Kept.IsZero() {
				t.Errorf("%s: then %v, %+v", tt.name, err, c.Status().Documents)
			}
		}
	})
}

// TestSnapshotUnusable: whatever is in the file, the process starts, and says so.
func TestSnapshotUnusable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "orders.json")
	writeSnapshot(t, path, []map[string]any{{"name": "feed own", "revision": 3, "at": time.Now(), "data": []byte("limits: {low: 7}\n")}})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		write func()
		low   int
		err   string // of the file; "" for none
	}{
		{"good", func() { os.WriteFile(path, good, 0o600) }, 7, ""},
		{"a flipped bit", func() {
			os.WriteFile(path, bytes.Replace(good, []byte(`"revision":3`), []byte(`"revision":2`), 1), 0o600)
		}, 2, "checksum"},
		{"cut off", func() { os.WriteFile(path, good[:len(good)/2], 0o600) }, 2, "unexpected end"},
		{"empty", func() { os.WriteFile(path, nil, 0o600) }, 2, "unexpected end"},
		{"null", func() { os.WriteFile(path, []byte("null"), 0o600) }, 2, "checksum"},
		{"too large", func() { os.WriteFile(path, make([]byte, 16*config.MaxDocument+1), 0o600) }, 2, "must not exceed"},
		{"a directory", func() { os.Remove(path); os.Mkdir(path, 0o700) }, 2, "is a directory"},
		{"what would not be taken", func() {
			os.Remove(path)
			writeSnapshot(t, path, []map[string]any{{"name": "feed own", "revision": 3, "at": time.Now(), "data": []byte("addr: :7\n")}})
		}, 2, ""},
		{"another document's", func() {
			writeSnapshot(t, path, []map[string]any{{"name": "feed other", "revision": 3, "at": time.Now(), "data": []byte("limits: {low: 7}\n")}})
		}, 2, ""},
	} {
		tt.write()
		c, v := watch(t, newDoc(t, "limits: {low: 2}\n"), "", defaultShop())
		f := newFeed()
		f.fail(all, config.ErrUnreachable)
		f.fail(own, config.ErrUnreachable)
		if err := c.Attach(config.Central{Feed: f, Snapshot: path}); err != nil {
			t.Fatal(err)
		}
		var rejected error
		c.Settle(t.Context(), func(e config.Event) {
			if e, ok := e.(config.SnapshotRejected); ok {
				rejected = e.Err
			}
		})
		if v.Get().Limits.Low != tt.low {
			t.Errorf("%s: %d, want %d", tt.name, v.Get().Limits.Low, tt.low)
		}
		if (rejected == nil) != (tt.err == "") || rejected != nil && !strings.Contains(rejected.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, rejected, tt.err)
		}
	}
}

// TestSnapshotFailed: a disk that is full, or no directory, changes nothing else.
func TestSnapshotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f := newFeed("", "limits: {low: 3}\n")
		_, v, events := begin(t, f, filepath.Join(dir, "file", "orders.json"))
		pass(time.Millisecond)
		f.write(own, "limits: {low: 4}\n")
		pass(settle)
		f.write(own, "limits: {low: 5}\n")
		pass(settle)
		failed := slices.DeleteFunc(events.told(), func(e string) bool { return e != "SnapshotFailed" })
		if v.Get().Limits.Low != 5 || len(failed) == 0 || len(failed) > 2 {
			t.Errorf("%d, told %q", v.Get().Limits.Low, failed)
		}
	})
}
