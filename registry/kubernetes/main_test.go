package kubernetes

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"plinth.internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// update is one thing that a watch yielded.
type update struct {
	snapshot registry.Snapshot
	err      error
}

// ids names the instances: with a star those that drain, with a question mark
// those in quarantine.
func (u update) ids() string {
	var ids []string
	for _, inst := range u.snapshot.Instances {
		id := inst.ID
		if inst.State == registry.Draining {
			id += "*"
		}
		if _, ok := u.snapshot.Quarantined[inst.ID]; ok {
			id += "?"
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, " ")
}

type watcher struct {
	updates chan update
	seen    []string
}

// follow watches a service until the end of the test.
func follow(t *testing.T, reg *registry.Registry, service string) *watcher {
	t.Helper()
	w := &watcher{updates: make(chan update)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(w.updates)
		for snapshot, err := range reg.Watch(ctx, service) {
			select {
			case w.updates <- update{snapshot, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range w.updates {
		}
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// until takes updates up to and including the first for which ok is true.
func (w *watcher) until(t *testing.T, what string, ok func(update) bool) update {
	t.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case u, open := <-w.updates:
			if !open {
				t.Fatalf("watch ended while waiting for %s", what)
			}
			w.seen = append(w.seen, u.ids())
			if ok(u) {
				return u
			}
		case <-timeout.C:
			t.Fatalf("no %s within 20s; lists: %q", what, w.seen)
		}
	}
}

// untilIDs waits for a list without error of exactly these instances.
func (w *watcher) untilIDs(t *testing.T, ids ...string) registry.Snapshot {
	t.Helper()
	slices.Sort(ids)
	want := strings.Join(ids, " ")
	return w.until(t, "list of ["+want+"]", func(u update) bool { return u.err == nil && u.ids() == want }).snapshot
}
