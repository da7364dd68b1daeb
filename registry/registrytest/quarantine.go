package registrytest

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"plinth.internal/registry"
)

// untilAbsent waits for a list of exactly these instances, of which one is in
// quarantine.
func (w *watcher) untilAbsent(t *testing.T, id string, ids ...string) {
	t.Helper()
	w.until(t, "quarantine of "+id, func(u update) bool {
		since, ok := u.snapshot.Quarantined[id]
		return ok && !since.IsZero() && list(u.ids()) == list(ids)
	})
}

// untilPresent waits for a list of exactly these instances, and nobody in
// quarantine.
func (w *watcher) untilPresent(t *testing.T, ids ...string) {
	t.Helper()
	w.until(t, "list without quarantine", func(u update) bool {
		return u.err == nil && len(u.snapshot.Quarantined) == 0 && list(u.ids()) == list(ids)
	})
}

func testLapse(t *testing.T, h Harness) {
	events := &eventLog{}
	reader := open(t, h, registry.WithEvents(events.add))
	w := watch(t, reader, "orders")
	put := func(id string) { h.Put(t, "orders", id, encode(t, instance("orders", id))) }
	put("o-1")
	put("o-2")
	w.untilPresent(t, "o-1", "o-2")

	// Of one that is listed nobody can say that it is not there.
	reader.Drop("orders", "o-1", errors.New("refused"))
	h.Put(t, "orders", "o-1", nil)
	w.untilAbsent(t, "o-1", "o-1", "o-2")
	put("o-1")
	w.untilPresent(t, "o-1", "o-2")

	h.Put(t, "orders", "o-1", nil)
	w.untilAbsent(t, "o-1", "o-1", "o-2")
	reader.Drop("billing", "o-1", errors.New("another service"))
	reader.Drop("orders", "o-1", errors.New("refused"))
	w.untilPresent(t, "o-2")
	put("o-1")
	w.untilPresent(t, "o-1", "o-2")

	for i, u := range w.seen {
		if u.err != nil || len(u.ids()) == 0 && i > 0 {
			t.Errorf("update %d: %s, want no error and no empty list", i, u)
		}
	}
	got := events.String()
	if strings.Count(got, "lapsed [o-1]") != 2 || strings.Count(got, "dropped o-1: refused") != 1 || strings.Count(got, "dropped") != 1 {
		t.Errorf("events: %s; want two lapses and one drop", got)
	}
}

func testMarked(t *testing.T, h Harness) {
	w := watch(t, open(t, h), "orders")
	for range 2 {
		inst := instance("orders", "o-1")
		h.Put(t, "orders", "o-1", encode(t, inst))
		w.untilPresent(t, "o-1")
		inst.State = registry.Draining
		h.Put(t, "orders", "o-1", encode(t, inst))
		w.until(t, "draining mark", func(u update) bool { got, _ := u.find("o-1"); return got.State == registry.Draining })
		h.Put(t, "orders", "o-1", nil)
		w.untilPresent(t)
	}
	for _, u := range w.seen {
		if len(u.snapshot.Quarantined) > 0 {
			t.Errorf("%s: want nobody in quarantine who was marked as draining", u)
		}
	}
}

func testMassLapse(t *testing.T, h Harness) {
	events := &eventLog{}
	reg := open(t, h, registry.WithEvents(events.add))
	w := watch(t, reg, "orders")
	ids := []string{"o-1", "o-2", "o-3", "o-4"}
	for _, id := range ids {
		h.Put(t, "orders", id, encode(t, instance("orders", id)))
	}
	w.untilPresent(t, ids...)
	began := len(w.seen)
	for _, id := range ids {
		h.Put(t, "orders", id, nil)
	}
	w.until(t, "quarantine of all", func(u update) bool { return len(u.snapshot.Quarantined) == len(ids) })
	for _, u := range w.seen[began:] {
		if list(u.ids()) != list(ids) {
			t.Errorf("after all entries were deleted: %s, want all of them", u)
		}
	}
	untilStatus(t, reg, "told about the mass lapse", func(registry.Status) bool { // it may be told after the list
		return strings.Contains(events.String(), "mass lapse")
	})
	if got := events.String(); strings.Count(got, "mass lapse") != 1 {
		t.Errorf("events: %s; want one mass lapse", got)
	}
}

func testSnapshot(t *testing.T, h Harness) {
	if h.Outage == nil {
		t.Skip("this backend cannot fail")
	}
	dir := t.TempDir()
	h.Put(t, "orders", "o-1", encode(t, instance("orders", "o-1")))
	before := h.Open(t, registry.WithSnapshots(dir))
	watch(t, before, "orders").untilIDs(t, "o-1")
	if err := before.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	restore := sync.OnceFunc(h.Outage(t))
	defer restore()

	w := watch(t, open(t, h, registry.WithSnapshots(dir)), "orders")
	u := w.until(t, "list from disk", func(u update) bool { return u.snapshot.Source == registry.SourceSnapshot })
	if got, ok := u.find("o-1"); !ok || !got.Equal(instance("orders", "o-1")) || u.snapshot.At.IsZero() {
		t.Errorf("list from disk: %s at %v, want what was there", u, u.snapshot.At)
	}
	restore()
	// The entry may be gone with the outage; the instance is in the list anyway.
	w.until(t, "list of the backend", func(u update) bool {
		return u.err == nil && u.snapshot.Source == registry.SourceRegistry && list(u.ids()) == "[o-1]"
	})
}

func testFallback(t *testing.T, h Harness) {
	if h.Outage == nil {
		t.Skip("this backend cannot fail")
	}
	restore := sync.OnceFunc(h.Outage(t))
	defer restore()
	guess := registry.WithFallback(map[string][]registry.Instance{"orders": {instance("orders", "guess")}})
	w := watch(t, open(t, h, guess, registry.WithSnapshots(t.TempDir())), "orders")
	w.until(t, "fallback", func(u update) bool {
		return u.snapshot.Source == registry.SourceFallback && list(u.ids()) == "[guess]"
	})
	restore()
	w.until(t, "list of the backend", func(u update) bool {
		return u.err == nil && u.snapshot.Source == registry.SourceRegistry && len(u.ids()) == 0
	})
}

func testOverride(t *testing.T, h Harness) {
	if h.Override == nil {
		t.Skip("this backend has no overrides")
	}
	events := &eventLog{}
	reg := open(t, h, registry.WithEvents(events.add))
	w := watch(t, open(t, h), "orders")
	untilShown := func(state registry.State, weight int) {
		t.Helper()
		w.until(t, "entry as wanted", func(u update) bool {
			got, ok := u.find("o-1")
			return ok && got.State == state && got.Weight == weight && len(u.snapshot.Quarantined) == 0
		})
	}
	// One that was there before counts as well.
	h.Override(t, "orders", "o-1", []byte(`{"state":"draining"}`))
	announce(t, reg, instance("orders", "o-1"))
	untilShown(registry.Draining, 50)
	if o := reg.Status().Override; o == nil || *o != (registry.Override{State: registry.Draining}) {
		t.Errorf("Status shows the override %+v, want draining", o)
	}
	// The instance's own changes and the loss of its entry do not end it.
	inst := instance("orders", "o-1")
	inst.Weight = 60
	announce(t, reg, inst)
	untilShown(registry.Draining, 60)
	h.Put(t, "orders", "o-1", nil)
	untilStatus(t, reg, "registered again", func(s registry.Status) bool {
		return strings.Contains(events.String(), "is lost") && s.State == registry.Registered
	})
	again := watch(t, open(t, h), "orders").until(t, "first list", func(update) bool { return true })
	if got, _ := again.find("o-1"); got.State != registry.Draining {
		t.Errorf("entry after it was put back: %+v, want it draining", got)
	}
	h.Override(t, "orders", "o-1", []byte(`{"weight":7}`))
	untilShown(registry.Up, 7)
	// What cannot be read changes nothing.
	h.Override(t, "orders", "o-1", []byte(`{"weight":-1}`))
	untilStatus(t, reg, "told about the bad override", func(registry.Status) bool {
		return strings.Contains(events.String(), "error true")
	})
	if o := reg.Status().Override; o == nil || o.Weight != 7 {
		t.Errorf("override after a bad one: %+v, want the one before", o)
	}
	h.Override(t, "orders", "o-1", nil)
	untilShown(registry.Up, 60)

	// It is about this instance, and goes with it.
	h.Override(t, "orders", "o-1", []byte(`{"state":"draining"}`))
	untilShown(registry.Draining, 60)
	if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
		t.Fatalf("Withdraw: %v", err)
	}
	w.untilPresent(t)
	told := strings.Count(events.String(), "override")
	announce(t, reg, inst)
	untilShown(registry.Up, 60)
	inst.Weight = 61
	announce(t, reg, inst)
	untilShown(registry.Up, 61)
	if n := strings.Count(events.String(), "override"); n != told {
		t.Errorf("events: %s; want none about an override after the withdrawal", events)
	}
}
