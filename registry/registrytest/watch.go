package registrytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"plinth.internal/registry"
)

func testOutage(t *testing.T, h Harness) {
	if h.Outage == nil {
		t.Skip("this backend cannot fail")
	}
	events := &eventLog{}
	reg := open(t, h)
	w := watch(t, open(t, h, registry.WithEvents(events.add)), "orders")
	inst := instance("orders", "o-1")
	announce(t, reg, inst)
	good := w.untilIDs(t, "o-1")

	restore := sync.OnceFunc(h.Outage(t))
	defer restore()
	u := w.until(t, "error", func(u update) bool { return u.err != nil })
	if got := list(u.ids()); got != "[o-1]" || u.snapshot.At.Before(good.At) {
		t.Errorf("list beside the error: %s confirmed at %v, want the last good one", u, u.snapshot.At)
	}
	// Another watcher of the same registry is served from what is known; a
	// registry that knows nothing says so.
	cold := watch(t, open(t, h), "orders").until(t, "error without a list", func(u update) bool { return u.err != nil })
	if len(cold.snapshot.Instances) > 0 || !cold.snapshot.At.IsZero() || cold.snapshot.Service != "orders" {
		t.Errorf("a watch that began in an outage: %s, want no list", cold)
	}

	// An update during the outage returns, and arrives when it is over.
	inst.State = registry.Draining
	announce(t, reg, inst)
	restore()
	w.until(t, "draining mark", func(u update) bool {
		got, ok := u.find("o-1")
		return u.err == nil && ok && got.State == registry.Draining
	})
	untilStatus(t, reg, "registered", func(s registry.Status) bool { return s.State == registry.Registered && s.Err == nil })

	for _, u := range w.seen {
		if u.err != nil && len(u.snapshot.Instances) == 0 {
			t.Errorf("an error emptied the list: %s", u)
		}
	}
	if got := events.String(); !strings.Contains(got, "failed") || strings.Count(got, "failed") != strings.Count(got, "recovered") {
		t.Errorf("events: %s; want as many failed as recovered, at least one", got)
	}
}

// testOutageIsTold: whoever has announced learns of an outage before the entry is lost.
func testOutageIsTold(t *testing.T, h Harness) {
	if h.Outage == nil {
		t.Skip("this backend cannot fail")
	}
	reg := open(t, h, registry.WithTTL(patience)) // so that nothing is lost before that
	announce(t, reg, instance("orders", "o-1"))
	restore := sync.OnceFunc(h.Outage(t))
	defer restore()
	untilStatus(t, reg, "registered, with an error", func(s registry.Status) bool { return s.State == registry.Registered && s.Err != nil })
	restore()
	untilStatus(t, reg, "registered", func(s registry.Status) bool { return s.State == registry.Registered && s.Err == nil })
}

func testAnnounceDuringOutage(t *testing.T, h Harness) {
	if h.Outage == nil {
		t.Skip("this backend cannot fail")
	}
	restore := sync.OnceFunc(h.Outage(t))
	defer restore()
	reg := open(t, h)
	w := watch(t, open(t, h), "orders")
	began := time.Now()
	announce(t, reg, instance("orders", "o-1"))
	if took := time.Since(began); took > registry.OperationTimeout+2*time.Second {
		t.Errorf("Announce took %v in an outage, want at most about %v", took, registry.OperationTimeout)
	}
	untilStatus(t, reg, "registering with an error", func(s registry.Status) bool {
		return s.State == registry.Registering && s.Err != nil
	})
	restore()
	w.untilIDs(t, "o-1")
	untilStatus(t, reg, "registered", func(s registry.Status) bool { return s.State == registry.Registered && s.Err == nil })
}

func testBadEntry(t *testing.T, h Harness) {
	events := &eventLog{}
	w := watch(t, open(t, h, registry.WithEvents(events.add)), "orders")
	good := encode(t, instance("orders", "good"))
	h.Put(t, "orders", "a-garbage", []byte("\x00\xff{"))
	h.Put(t, "orders", "good", good)
	h.Put(t, "orders", "other-id", good)
	h.Put(t, "orders", "z-no-port", []byte(`{"endpoints":{"grpc":"10.0.0.1"}}`))
	u := w.until(t, "three skipped entries", func(u update) bool {
		return len(u.snapshot.Skipped) == 3 && list(u.ids()) == "[good]"
	})
	for i, id := range []string{"a-garbage", "other-id", "z-no-port"} {
		if s := u.snapshot.Skipped[i]; !strings.HasSuffix(s.Key, "orders/"+id) || s.Err == nil {
			t.Errorf("Skipped[%d] = %+v, want a key of %s and an error", i, s, id)
		}
	}
	h.Put(t, "orders", "more", encode(t, instance("orders", "more")))
	w.untilIDs(t, "good", "more")
	h.Put(t, "orders", "a-garbage", encode(t, instance("orders", "a-garbage"))) // repaired
	h.Put(t, "orders", "other-id", nil)                                         // never was an instance: nothing lapses
	h.Put(t, "orders", "z-no-port", nil)
	s := w.untilIDs(t, "a-garbage", "good", "more")
	for len(s.Skipped) > 0 {
		s = w.until(t, "no skipped entries", func(u update) bool { return len(u.snapshot.Skipped) == 0 }).snapshot
	}
	if got := strings.Count(events.String(), "skipped"); got != 3 {
		t.Errorf("%d events about skipped entries, want 3: %s", got, events)
	}
}

func testUnknownFields(t *testing.T, h Harness) {
	reg := open(t, h)
	w := watch(t, open(t, h), "orders")
	h.Put(t, "orders", "newer", []byte(`{"id":"newer","service":"orders","endpoints":{"grpc":"10.0.0.1:9000"},"shard":{"n":[1,2]}}`))
	u := w.until(t, "entry of a newer version", func(u update) bool { return len(u.snapshot.Instances) == 1 })
	inst := u.snapshot.Instances[0]
	if inst.Weight != registry.DefaultWeight || inst.State != registry.Up {
		t.Errorf("weight %d, state %q of an entry without: want the defaults", inst.Weight, inst.State)
	}
	// What the program read, it can announce again without losing anything.
	inst = inst.Clone()
	inst.Weight = 3
	announce(t, reg, inst)
	u = w.until(t, "announced again", func(u update) bool { got, _ := u.find("newer"); return got.Weight == 3 })
	if data := string(encode(t, u.snapshot.Instances[0])); !strings.Contains(data, `"shard":{"n":[1,2]}`) || !strings.Contains(data, `"weight":3`) {
		t.Errorf("entry after it was announced again: %s, want the unknown field and the new weight", data)
	}
}

func testManyWatchers(t *testing.T, h Harness) {
	reg, reader := open(t, h), open(t, h)
	var watchers []*watcher
	for range 20 {
		watchers = append(watchers, watch(t, reader, "orders"))
	}
	// One that never takes anything must not hold up the others.
	stuck := watch(t, reader, "orders")
	inst := instance("orders", "o-1")
	for weight := 1; weight <= 5; weight++ {
		inst.Weight = weight
		announce(t, reg, inst)
	}
	for i, w := range watchers {
		w.until(t, "weight 5", func(u update) bool { got, _ := u.find("o-1"); return got.Weight == 5 })
		if i%2 == 0 {
			w.cancel()
		}
	}
	announce(t, reg, instance("orders", "o-2"))
	for i, w := range watchers {
		if i%2 == 1 {
			w.untilIDs(t, "o-1", "o-2")
		}
	}
	stuck.untilIDs(t, "o-1", "o-2")
	// Its first update may be old; then it gets the latest, not what it missed.
	if n := len(stuck.seen); n > 2 {
		t.Errorf("a watcher that was away got %d lists, want at most 2", n)
	}
}

func testClose(t *testing.T, h Harness) {
	reg := h.Open(t)
	own := watch(t, reg, "orders")
	w := watch(t, open(t, h), "orders")
	announce(t, reg, instance("orders", "o-1"))
	announce(t, reg, instance("orders", "o-2"))
	w.untilIDs(t, "o-1", "o-2")
	for range 2 {
		if err := reg.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	w.untilIDs(t)
	timeout := time.After(patience)
	for open := true; open; {
		select {
		case _, open = <-own.updates:
		case <-timeout:
			t.Fatal("a watch goes on after Close")
		}
	}
	if err := reg.Announce(t.Context(), instance("orders", "o-1")); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("Announce after Close = %v, want ErrClosed", err)
	}
	if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
		t.Errorf("Withdraw after Close = %v, want none", err)
	}
	n := 0
	for _, err := range reg.Watch(t.Context(), "orders") {
		if n++; !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Watch after Close yields %v, want ErrClosed", err)
		}
	}
	if n != 1 {
		t.Errorf("Watch after Close yields %d times, want once", n)
	}
	if got := reg.Status().State; got != registry.Withdrawn {
		t.Errorf("state after Close = %q, want withdrawn", got)
	}
}

func testReadOnly(t *testing.T, h Harness) {
	reg := open(t, h)
	for service, want := range h.Fixed {
		u := watch(t, reg, service).until(t, "first list", func(update) bool { return true })
		if u.err != nil || len(u.snapshot.Instances) != len(want) {
			t.Fatalf("%s: %s, want %d instances", service, u, len(want))
		}
		for i, inst := range u.snapshot.Instances {
			if !inst.Equal(want[i]) {
				t.Errorf("%s: instance %d = %+v, want %+v", service, i, inst, want[i])
			}
		}
	}
	if u := watch(t, reg, "nobody").until(t, "first list", func(update) bool { return true }); u.err != nil || len(u.ids()) > 0 {
		t.Errorf("unknown service: %s, want an empty list", u)
	}
	for range 2 {
		if err := reg.Announce(t.Context(), instance("orders", "o-1")); !errors.Is(err, registry.ErrReadOnly) {
			t.Errorf("Announce = %v, want ErrReadOnly", err)
		}
	}
	if got := reg.Status(); got.State != registry.Off || got.Err != nil {
		t.Errorf("Status = %+v, want off", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for snapshot, err := range reg.Watch(ctx, "nobody") {
		t.Errorf("a watch whose context has ended yields %v, %v", snapshot, err)
	}
}

// eventLog collects events.
type eventLog struct {
	mu   sync.Mutex
	text []string
}

func (l *eventLog) add(e registry.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := e.(type) {
	case registry.WatchFailed:
		l.text = append(l.text, "failed "+e.Service)
	case registry.WatchRecovered:
		l.text = append(l.text, "recovered "+e.Service)
	case registry.EntrySkipped:
		l.text = append(l.text, "skipped "+e.Key)
	case registry.AnnouncementChanged:
		l.text = append(l.text, fmt.Sprintf("%s is %s", e.ID, e.To))
	case registry.InstancesLapsed:
		l.text = append(l.text, fmt.Sprintf("lapsed %v", e.IDs))
	case registry.InstanceDropped:
		l.text = append(l.text, fmt.Sprintf("dropped %s: %v", e.ID, e.Err))
	case registry.MassLapse:
		l.text = append(l.text, fmt.Sprintf("mass lapse of %d of %d", e.Gone, e.Of))
	case registry.OverrideChanged:
		l.text = append(l.text, fmt.Sprintf("override of %s: %v error %t", e.ID, e.Override, e.Err != nil))
	case registry.SnapshotRejected:
		l.text = append(l.text, fmt.Sprintf("rejected %s: %v", e.Path, e.Err))
	}
}

func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.text, ", ")
}
