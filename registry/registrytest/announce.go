package registrytest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"plinth.internal/registry"
)

func testVisible(t *testing.T, h Harness) {
	service, other := open(t, h), open(t, h)
	want := instance("orders", "o-1")
	announce(t, service, want)
	// The first list of a watch that starts now has it.
	u := watch(t, other, "orders").until(t, "first list", func(update) bool { return true })
	if u.err != nil {
		t.Fatalf("first update: %v", u.err)
	}
	got, ok := u.find("o-1")
	if !ok || !got.Equal(want) {
		t.Errorf("first list after Announce: %+v, want only %+v", u.snapshot.Instances, want)
	}
	if u.snapshot.Service != "orders" || u.snapshot.At.IsZero() {
		t.Errorf("snapshot of service %q at %v, want service and time", u.snapshot.Service, u.snapshot.At)
	}
	status := service.Status()
	if status.State != registry.Registered || status.Err != nil || status.Since.IsZero() || status.Kind != service.Kind() || status.TTL <= 0 {
		t.Errorf("Status = %+v after Announce, want registered", status)
	}
	if got := other.Status().State; got != registry.Off {
		t.Errorf("state of a registry that announced nothing = %q, want off", got)
	}
}

func testOrder(t *testing.T, h Harness) {
	service := open(t, h)
	w := watch(t, open(t, h), "orders")
	w.untilIDs(t)
	inst := instance("orders", "o-1")
	for weight := 1; weight <= 20; weight++ {
		inst.Weight = weight
		announce(t, service, inst)
	}
	inst.State = registry.Draining
	announce(t, service, inst)
	w.until(t, "draining mark", func(u update) bool {
		got, ok := u.find("o-1")
		return ok && got.State == registry.Draining && got.Weight == 20
	})
	if err := service.Withdraw(t.Context(), "o-1"); err != nil {
		t.Fatalf("Withdraw: %v", err)
	}
	w.untilIDs(t)

	// Steps may be left out, but none comes back.
	last := 0
	for _, u := range w.seen {
		if got, ok := u.find("o-1"); ok {
			if got.Weight < last {
				t.Errorf("weight %d was seen after %d", got.Weight, last)
			}
			if got.State == registry.Draining && got.Weight != 20 {
				t.Errorf("draining was seen with weight %d, want 20", got.Weight)
			}
			last = got.Weight
		}
		if u.err != nil {
			t.Errorf("a watch on a healthy backend yielded %v", u.err)
		}
	}
	if last == 0 {
		t.Error("no list with the instance was seen")
	}
}

func testLists(t *testing.T, h Harness) {
	one, two := open(t, h), open(t, h)
	reader := open(t, h)
	w := watch(t, reader, "orders")
	longer := watch(t, reader, "orders-archive")
	announce(t, two, instance("orders", "o-2"))
	announce(t, one, instance("orders", "o-1"))
	announce(t, one, instance("orders-archive", "a-1"))
	if s := w.untilIDs(t, "o-1", "o-2"); len(s.Skipped) > 0 {
		t.Errorf("Skipped = %v, want none", s.Skipped)
	}
	// A service whose name is the beginning of another's is another service.
	longer.untilIDs(t, "a-1")

	// Withdrawing one of two leaves the other.
	if err := one.Withdraw(t.Context(), "o-1"); err != nil {
		t.Fatalf("Withdraw: %v", err)
	}
	w.untilIDs(t, "o-2")
	if got := one.Status().State; got != registry.Registered {
		t.Errorf("state with one announcement left = %q, want registered", got)
	}
	u := watch(t, reader, "nobody").until(t, "list of an unknown service", func(update) bool { return true })
	if u.err != nil || len(u.snapshot.Instances) != 0 {
		t.Errorf("unknown service: %s, want an empty list", u)
	}
}

func testWithdraw(t *testing.T, h Harness) {
	reg := open(t, h)
	w := watch(t, open(t, h), "orders")
	if err := reg.Withdraw(t.Context(), "nobody"); err != nil {
		t.Errorf("Withdraw of what was never announced: %v", err)
	}
	for range 2 { // announce again after a withdrawal
		announce(t, reg, instance("orders", "o-1"))
		w.untilIDs(t, "o-1")
		for range 2 {
			if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
				t.Fatalf("Withdraw: %v", err)
			}
			if got := reg.Status().State; got != registry.Withdrawn {
				t.Errorf("state after Withdraw = %q, want withdrawn", got)
			}
			// It is synchronous: a list that starts now is empty.
			u := watch(t, open(t, h), "orders").until(t, "first list", func(update) bool { return true })
			if len(u.snapshot.Instances) > 0 || u.err != nil {
				t.Errorf("list after Withdraw: %s, want none", u)
			}
		}
		w.untilIDs(t)
	}
}

func testContext(t *testing.T, h Harness) {
	reg := open(t, h)
	w := watch(t, open(t, h), "orders")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := reg.Announce(ctx, instance("orders", "o-1")); err != nil {
		t.Fatalf("Announce: %v", err)
	}
	w.untilIDs(t, "o-1")

	// The context of an update is not that of the announcement.
	uctx, ucancel := context.WithCancel(t.Context())
	changed := instance("orders", "o-1")
	changed.Weight = 7
	if err := reg.Announce(uctx, changed); err != nil {
		t.Fatalf("Announce of an update: %v", err)
	}
	ucancel()
	changed.Weight = 8
	announce(t, reg, changed)
	w.until(t, "weight 8", func(u update) bool {
		if len(u.snapshot.Instances) == 0 {
			t.Errorf("the end of an update's context withdrew the instance: %s", u)
		}
		got, _ := u.find("o-1")
		return got.Weight == 8
	})

	cancel()
	w.untilIDs(t)
	untilStatus(t, reg, "withdrawn", func(s registry.Status) bool { return s.State == registry.Withdrawn })
	if err := reg.Announce(ctx, instance("orders", "o-1")); !errors.Is(err, context.Canceled) {
		t.Errorf("Announce with a context that has ended = %v, want context canceled", err)
	}
}

func testInvalid(t *testing.T, h Harness) {
	reg := open(t, h)
	bad := instance("orders", "o/1")
	if err := reg.Announce(t.Context(), bad); err == nil {
		t.Error("Announce of an invalid instance returned no error")
	}
	announce(t, reg, instance("orders", "o-1"))
	if err := reg.Announce(t.Context(), instance("billing", "o-1")); err == nil {
		t.Error("Announce of one ID for two services returned no error")
	}
	watch(t, reg, "orders").untilIDs(t, "o-1")
}

func testLost(t *testing.T, h Harness) {
	events := &eventLog{}
	reg := open(t, h, registry.WithEvents(events.add))
	w := watch(t, open(t, h), "orders")
	inst := instance("orders", "o-1")
	announce(t, reg, inst)
	w.untilIDs(t, "o-1")
	foreign := inst.Clone()
	foreign.Weight = 1
	for i, value := range [][]byte{nil, encode(t, foreign)} {
		h.Put(t, "orders", "o-1", value)
		untilStatus(t, reg, "registered again", func(s registry.Status) bool {
			return strings.Count(events.String(), "is lost") == i+1 && s.State == registry.Registered && s.Err == nil
		})
		// The backend has it again, and whoever watched all the time too.
		back := func(u update) bool {
			got, ok := u.find("o-1")
			return ok && u.err == nil && got.Equal(inst) && len(u.snapshot.Quarantined) == 0
		}
		if u := watch(t, open(t, h), "orders").until(t, "first list", func(update) bool { return true }); !back(u) {
			t.Errorf("list after the entry was put back: %s, want it as it was", u)
		}
		if !back(w.last) {
			w.until(t, "entry put back", back)
		}
	}
	if err := reg.Withdraw(t.Context(), "o-1"); err != nil {
		t.Fatalf("Withdraw: %v", err)
	}
	w.untilIDs(t)
	for i, u := range w.seen[:len(w.seen)-1] {
		if len(u.ids()) == 0 && i > 0 {
			t.Errorf("update %d: %s, want the instance until it is withdrawn", i, u)
		}
	}
}
