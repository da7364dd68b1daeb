package balancer

import (
	"math"
	"slices"
	"strconv"
	"testing"
)

// homes returns the address that each of the keys goes to.
func homes(l *List, keys int) []string {
	var p ConsistentHash
	at := make([]string, keys)
	for i := range at {
		at[i] = l.At(p.Pick(l, Request{Now: noon, Key: "key-" + strconv.Itoa(i)})).Addr()
	}
	return at
}

func TestConsistentHashMovesOnlyItsKeys(t *testing.T) {
	const keys = 10000
	list := members(20)
	before := homes(NewList(new(Set).Update(noon, list)), keys)

	gone := list[7].Addr
	fewer := slices.Delete(slices.Clone(list), 7, 8)
	slices.Reverse(fewer) // the order of the list means nothing
	after := homes(NewList(new(Set).Update(noon, fewer)), keys)
	moved := 0
	for i := range before {
		if before[i] == gone {
			moved++
		} else if before[i] != after[i] {
			t.Fatalf("key %d moved from %s to %s, though only %s is gone", i, before[i], after[i], gone)
		}
	}
	if moved < keys/40 || moved > keys/10 {
		t.Errorf("%d of %d keys were at the one of 20 that is gone", moved, keys)
	}

	list[7].Gate = gate(shut)
	closed := homes(NewList(new(Set).Update(noon, list)), keys)
	if !slices.Equal(closed, after) {
		t.Error("keys of an endpoint that is closed do not go where they go when it is gone")
	}
}

// TestConsistentHashIsStable: other processes, of other versions too, must send the
// same keys to the same places.
func TestConsistentHashIsStable(t *testing.T) {
	if got := hash("key-1"); got != 0x3803edeb4f445d66 {
		t.Errorf("the hash of key-1 is %#x", got)
	}
	got := homes(NewList(endpoints(5)), 6)
	want := []string{"10.0.0.1:9000", "10.0.0.0:9000", "10.0.0.3:9000", "10.0.0.0:9000", "10.0.0.2:9000", "10.0.0.2:9000"}
	if !slices.Equal(got, want) {
		t.Errorf("the keys are at %q, want %q", got, want)
	}
}

func TestRingIsOrdered(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100, 1000} {
		points := newRing(endpoints(n)).points
		if !slices.IsSorted(points) || len(points) != n*ringPoints || len(slices.Compact(points)) != n*ringPoints {
			t.Errorf("the ring of %d endpoints is not in order, or places are missing", n)
		}
	}
}

func TestConsistentHashSpread(t *testing.T) {
	list := members(10)
	list[0].Weight = 300
	l := NewList(new(Set).Update(noon, list))
	counts := map[string]int{}
	for _, addr := range homes(l, 24000) {
		counts[addr]++
	}
	for i, m := range list {
		want := 2000.
		if i == 0 {
			want = 6000
		}
		if got := float64(counts[m.Addr]); math.Abs(got-want) > want*0.4 {
			t.Errorf("endpoint %d has %.0f of 24000 keys, want about %.0f", i, got, want)
		}
	}
}

func TestConsistentHashBoundsLoads(t *testing.T) {
	for _, n := range []int{3, 10, 100} {
		l := NewList(endpoints(n))
		var p ConsistentHash
		r := Request{Now: noon, Key: "everybody's favourite"}
		home := p.Pick(l, r)
		calls := 20 * n
		for range calls { // nothing ends
			l.At(p.Pick(l, r)).Begin(noon, new(Call))
		}
		bound := int64(math.Ceil(loadFactor * float64(calls) / float64(n)))
		for i := range n {
			if got := l.At(i).Stats(noon).InFlight; got > bound {
				t.Errorf("endpoint %d of %d has %d calls of one key in flight, want at most %d", i, n, got, bound)
			}
		}
		if got := l.At(home).Stats(noon).InFlight; got < bound-1 {
			t.Errorf("the key's own endpoint has %d in flight, want it full: %d", got, bound)
		}
	}
}

// TestConsistentHashWithoutRoom: half are closed, so that the others cannot keep
// within the bound. They must share what there is all the same.
func TestConsistentHashWithoutRoom(t *testing.T) {
	list := members(10)
	for i := range 5 {
		list[i].Gate = gate(shut)
	}
	l := NewList(new(Set).Update(noon, list))
	p := &ConsistentHash{Rand: seeded(1)}
	for range 1000 {
		l.At(p.Pick(l, Request{Now: noon})).Begin(noon, new(Call))
	}
	for i := range 10 {
		if got := l.At(i).Stats(noon).InFlight; i < 5 && got != 0 || i >= 5 && (got < 100 || got > 260) {
			t.Errorf("endpoint %d has %d of 1000, want none on the closed half and about 200 on each other", i, got)
		}
	}
}

func TestConsistentHashWithoutKeyIsSpread(t *testing.T) {
	l := NewList(endpoints(10))
	for i, n := range spread(&ConsistentHash{Rand: seeded(1)}, l, Request{Now: noon}, 10000) {
		if n < 500 || n > 1500 {
			t.Errorf("endpoint %d got %d of 10000", i, n)
		}
	}
}
