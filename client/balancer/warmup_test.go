package balancer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestWarmUpShare(t *testing.T) {
	const old = -time.Hour
	type member struct {
		addr    string
		started time.Duration // relative to noon; 1 means not told
	}
	tests := []struct {
		name   string
		lists  [][]member // a second apart, the first one at noon
		after  time.Duration
		expect map[string]float64
	}{
		{"just started", [][]member{{{"old", old}, {"new", 0}}}, 0, map[string]float64{"old": 1, "new": 0.1}},
		{"half way", [][]member{{{"old", old}, {"new", 0}}}, 5 * time.Second, map[string]float64{"old": 1, "new": 0.55}},
		{"over", [][]member{{{"old", old}, {"new", 0}}}, SlowStart, map[string]float64{"old": 1, "new": 1}},
		{"started before the client", [][]member{{{"old", old}, {"new", -5 * time.Second}}}, 0, map[string]float64{"old": 1, "new": 0.55}},
		{"not told", [][]member{{{"old", old}, {"new", 1}}}, 0, map[string]float64{"old": 1, "new": 1}},
		{"the whole fleet is new", [][]member{{{"a", 0}, {"b", -time.Second}}}, 0, map[string]float64{"a": 1, "b": 1}},
		{"clock an hour ahead, at first", [][]member{{{"old", old}, {"new", time.Hour}}}, 0, map[string]float64{"old": 1, "new": 0.1}},
		{"clock an hour ahead, then", [][]member{{{"old", old}, {"new", time.Hour}}}, SlowStart, map[string]float64{"old": 1, "new": 1}},
		{"an update changes nothing", [][]member{{{"old", old}, {"new", 0}}, {{"old", old}, {"new", 0}}}, 5 * time.Second, map[string]float64{"new": 0.55}},
		{"a new process at an old address", [][]member{{{"old", old}, {"a", old}}, {{"old", old}, {"a", time.Second}}}, time.Second, map[string]float64{"a": 0.1}},
		{"the old ones are gone", [][]member{{{"old", old}, {"new", 0}}, {{"new", 0}}}, time.Second, map[string]float64{"new": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var set Set
			got := map[string]float64{}
			for i, list := range tt.lists {
				var members []Member
				for _, m := range list {
					started := noon.Add(m.started)
					if m.started == 1 {
						started = time.Time{}
					}
					members = append(members, Member{Addr: m.addr, Started: started})
				}
				for _, e := range set.Update(noon.Add(time.Duration(i)*time.Second), members) {
					got[e.Addr()] = e.share(noon.Add(tt.after))
				}
			}
			for addr, want := range tt.expect {
				if d := got[addr] - want; d < -0.001 || d > 0.001 {
					t.Errorf("the share of %s is %.3f, want %.3f", addr, got[addr], want)
				}
			}
		})
	}
}

// TestSlowStartSimulation adds one instance to nine that carry 5000 calls a
// second, and measures its part of the calls, second by second.
func TestSlowStartSimulation(t *testing.T) {
	for _, name := range []string{NameAdaptive, NamePrecise, NameLeastRequest, NameRoundRobin, NameWeighted, NameRandom} {
		for _, seed := range []uint64{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				shares := slowStart(policies(seed)[name], seed)
				for second, got := range shares {
					// What it would have without a slow start is a tenth of
					// all, and up to twice that with a policy that prefers it
					// while it is idle.
					want := min(SlowStartShare+(1-SlowStartShare)*(float64(second)+0.5)/SlowStart.Seconds(), 1) / 10
					// One that is compared by cost may have less at first: a
					// single slow call, and it is left alone for a second.
					low := want * 0.55
					if name == NameAdaptive || name == NamePrecise {
						low = 0
					}
					if got < low || got > want*2 {
						t.Errorf("in second %d the new instance has %.2f%% of the calls, want about %.2f%%", second, got*100, want*100)
					}
				}
				if shares[0] > 0.03 || shares[12] < 0.07 {
					t.Errorf("the share goes from %.3f to %.3f, want from about 0.015 to 0.1", shares[0], shares[12])
				}
			})
		}
	}
}

func slowStart(p Policy, seed uint64) (shares [15]float64) {
	list := []Member{{Addr: "new", Started: noon}}
	for i := range 9 {
		list = append(list, Member{Addr: fmt.Sprint("old", i), Started: noon.Add(-time.Hour)})
	}
	l := NewList(new(Set).Update(noon, list))
	rng := rand.New(rand.NewPCG(seed, 0))
	const perSecond = 5000
	picks := 0
	play(counting(func(r Request) int {
		on := p.Pick(l, r)
		if on == 0 {
			shares[picks/perSecond] += 1. / perSecond
		}
		picks++
		return on
	}), l, perSecond*len(shares), perSecond, func(int) (time.Duration, Outcome) {
		return time.Duration(rng.ExpFloat64() * float64(ms)), Succeeded
	})
	return shares
}

// counting is a policy that looks at what another one picks.
type counting func(Request) int

func (p counting) Pick(_ *List, r Request) int { return p(r) }

func TestSlowStartNeverStarves(t *testing.T) {
	list := []Member{{Addr: "new", Started: noon}, {Addr: "old", Started: noon.Add(-time.Hour)}}
	for name, p := range policies(1) {
		all := new(Set).Update(noon, list)
		// The old one has just failed the call, is closed, or is not there.
		if got := p.Pick(NewList(all), Request{Now: noon, Exclude: all[1:]}); got != 0 {
			t.Errorf("%s: picked %d although it had failed", name, got)
		}
		if got := p.Pick(NewList(all[:1]), Request{Now: noon}); got != 0 {
			t.Errorf("%s: picked %d of one", name, got)
		}
		closed := Gate(gate(shut))
		all[1].gate.Store(&closed)
		if got := p.Pick(NewList(all), Request{Now: noon}); got != 0 {
			t.Errorf("%s: picked %d although it is closed", name, got)
		}
	}
}
