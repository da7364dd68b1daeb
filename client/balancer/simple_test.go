package balancer

import (
	"testing"
	"time"
)

func TestLeastRequestPrefersFewerInFlight(t *testing.T) {
	l := NewList(endpoints(2))
	p := &LeastRequest{Rand: seeded(1)}
	var c Call
	l.At(0).Begin(noon, &c)
	if counts := spread(p, l, Request{Now: noon}, 100); counts[0] != 0 {
		t.Fatalf("the one with more in flight is picked %d times", counts[0])
	}
	l.At(0).End(noon, &c, Succeeded)
	if counts := spread(p, l, Request{Now: noon}, 1000); counts[0] < 400 || counts[1] < 400 {
		t.Errorf("ties were broken %v, want about even", counts)
	}
}

func TestLeastRequestWeights(t *testing.T) {
	l := NewList(new(Set).Update(noon, []Member{{Addr: "a", Weight: 300}, {Addr: "b", Weight: 100}}))
	p := &LeastRequest{Rand: seeded(7)}

	if heavy := spread(p, l, Request{Now: noon}, 4000)[0]; heavy < 2800 || heavy > 3200 {
		t.Errorf("idle, the endpoint with three quarters of the weight got %d of 4000", heavy)
	}
	for range 100 { // nothing ends
		l.At(p.Pick(l, Request{Now: noon})).Begin(noon, new(Call))
	}
	if got := l.At(0).Stats(noon).InFlight; got < 70 || got > 80 {
		t.Errorf("%d of 100 are in flight on the endpoint with three quarters of the weight", got)
	}
}

func TestRoundRobinIsEven(t *testing.T) {
	list := members(7)
	list[3].Gate = gate(shut)
	l := NewList(new(Set).Update(noon, list))
	for i, n := range spread(NewRoundRobin(), l, Request{Now: noon}, 60) {
		if want := 10; i == 3 && n != 0 || i != 3 && n != want {
			t.Errorf("endpoint %d got %d of 60, want %d, and none for the closed one", i, n, want)
		}
	}
}

func TestPickFirstStays(t *testing.T) {
	down := map[string]bool{}
	var set Set
	list := func(addrs ...string) *List {
		var m []Member
		for _, a := range addrs {
			m = append(m, Member{Addr: a, Gate: gate(func(time.Time) bool { return !down[a] })})
		}
		return NewList(set.Update(noon, m))
	}
	abc := list("a", "b", "c")
	steps := []struct {
		name    string
		list    *List
		down    string
		exclude string
		want    string
	}{
		{"the first", abc, "", "", "a"},
		{"a new one before it", list("n", "a", "b", "c"), "", "", "a"},
		{"it failed in this call", abc, "", "a", "b"},
		{"the next call", abc, "", "", "a"},
		{"it is closed", abc, "a", "", "b"},
		{"it opens again", abc, "", "", "b"},
		{"it is gone", list("c", "a"), "", "", "c"},
		{"all are closed", abc, "abc", "", "a"},
		{"and open again", abc, "", "", "c"},
	}
	var p PickFirst
	for _, s := range steps {
		clear(down)
		for _, a := range s.down {
			down[string(a)] = true
		}
		r := Request{Now: noon}
		for _, e := range s.list.endpoints {
			if e.Addr() == s.exclude {
				r.Exclude = append(r.Exclude, e)
			}
		}
		if got := s.list.At(p.Pick(s.list, r)).Addr(); got != s.want {
			t.Errorf("%s: picked %s, want %s", s.name, got, s.want)
		}
	}
}
