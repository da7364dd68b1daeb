// Package registrytest is the conformance suite for registry backends: what a
// service or a client may rely on, whatever the backend is. A backend's test
// is a [Harness] and one call of [Run].
//
// The suite uses real time and waits for what must happen with a deadline that
// is generous for a loaded machine; it never sleeps. Each of its tests gets a
// harness of its own. It finds goroutine leaks only if the backend's TestMain
// uses goleak.
package registrytest

import (
	"context"
	"testing"
	"time"

	"plinth.internal/registry"
)

// Harness is a backend with a place of its own in it, empty at first.
type Harness struct {
	// Open returns another registry on the same place. The suite closes it.
	Open func(t *testing.T, opts ...registry.Option) *registry.Registry

	// Put writes the entry of an instance as another program would, bypassing
	// all registries; nil deletes it. Nil if the backend is read-only.
	Put func(t *testing.T, service, id string, value []byte)

	// Outage makes the backend unavailable and returns the function that makes
	// it available again, with or without the entries of before. The suite
	// calls that exactly once. Nil if the backend cannot fail.
	Outage func(t *testing.T) (restore func())

	// Override writes the stored override of an instance as an operator would;
	// nil deletes it. Nil if the backend has no overrides.
	Override func(t *testing.T, service, id string, value []byte)

	// Fixed are the lists of a read-only backend, by service; nil for one that
	// can be written. For a read-only backend only reading is tested.
	Fixed map[string][]registry.Instance
}

// patience is how long the suite waits for what must happen.
const patience = 20 * time.Second

// Run runs the suite. It calls newHarness once for each test.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	tests := []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"AnnounceReturnsWhenVisible", testVisible},
		{"ChangesComeInOrder", testOrder},
		{"ListsAreSortedAndApart", testLists},
		{"WithdrawIsIdempotent", testWithdraw},
		{"ContextEndWithdraws", testContext},
		{"InvalidIsRefused", testInvalid},
		{"LostEntryIsPutBack", testLost},
		{"OutageKeepsLastGood", testOutage},
		{"OutageIsTold", testOutageIsTold},
		{"AnnounceDuringOutage", testAnnounceDuringOutage},
		{"BadEntryIsSkipped", testBadEntry},
		{"UnknownFieldsAreKept", testUnknownFields},
		{"ManyWatchers", testManyWatchers},
		{"CloseEndsEverything", testClose},
		{"LapseIsQuarantined", testLapse},
		{"MarkedIsGoneAtOnce", testMarked},
		{"MassLapseKeepsTheList", testMassLapse},
		{"StartFromSnapshot", testSnapshot},
		{"StartFromFallback", testFallback},
		{"OverrideIsFollowed", testOverride},
	}
	if probe := newHarness(t); probe.Fixed != nil {
		t.Run("ReadOnly", func(t *testing.T) { testReadOnly(t, probe) })
		return
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newHarness(t)) })
	}
}

// open opens a registry that is closed at the end of the test.
func open(t *testing.T, h Harness, opts ...registry.Option) *registry.Registry {
	t.Helper()
	reg := h.Open(t, opts...)
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Errorf("close registry: %v", err)
		}
	})
	return reg
}

// instance returns one that shares no address with another: who is listed at an
// address has taken the place of who was there before.
func instance(service, id string) registry.Instance {
	return registry.Instance{
		ID:        id,
		Service:   service,
		Version:   "1.2.3",
		Zone:      "a",
		Endpoints: map[string]string{"grpc": id + ".test:9000", "admin": id + ".test:9100"},
		Weight:    50,
		Metadata:  map[string]string{"team": "blue"},
		Started:   time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		State:     registry.Up,
	}
}

func announce(t *testing.T, reg *registry.Registry, inst registry.Instance) {
	t.Helper()
	// Not t.Context: that ends before the cleanup which closes the registry,
	// and the suite wants to see the end by Close as well.
	if err := reg.Announce(context.WithoutCancel(t.Context()), inst); err != nil {
		t.Fatalf("Announce: %v", err)
	}
}

// update is one thing that a watch yielded.
type update struct {
	snapshot registry.Snapshot
	err      error
}

// watcher collects what a watch yields.
type watcher struct {
	updates chan update   // closed when the iteration has ended
	cancel  func()        // ends the iteration
	last    update        // the latest that until has taken
	seen    []update      // all that until has taken
	limit   time.Duration // how long until waits
}

func watch(t *testing.T, reg *registry.Registry, service string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &watcher{updates: make(chan update), cancel: cancel, limit: patience}
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
	})
	return w
}

// until takes updates up to and including the first for which ok is true.
func (w *watcher) until(t *testing.T, what string, ok func(update) bool) update {
	t.Helper()
	timeout := time.NewTimer(w.limit)
	defer timeout.Stop()
	for {
		select {
		case u, open := <-w.updates:
			if !open {
				t.Fatalf("watch ended while waiting for %s; last: %s", what, w.last)
			}
			w.last = u
			w.seen = append(w.seen, u)
			if ok(u) {
				return u
			}
		case <-timeout.C:
			t.Fatalf("no %s within %v; last: %s", what, w.limit, w.last)
		}
	}
}

// untilIDs waits for a list without error of exactly these instances.
func (w *watcher) untilIDs(t *testing.T, ids ...string) registry.Snapshot {
	t.Helper()
	return w.until(t, "list of "+list(ids), func(u update) bool {
		return u.err == nil && list(u.ids()) == list(ids)
	}).snapshot
}
