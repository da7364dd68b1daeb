package balancer

import (
	"math"
	"testing"
	"time"
)

// zoned returns n endpoints, of which the first few are in the client's zone.
func zoned(n, home int, factor float64) (*Set, *List) {
	set := new(Set)
	all := members(n)
	for i := range all {
		all[i].Away = i >= home
	}
	set.SetAwayFactor(factor)
	return set, NewList(set.Update(noon, all))
}

// stays is the share of the picks that went to the first few endpoints.
func stays(counts []int, home int) float64 {
	here, all := 0, 0
	for i, n := range counts {
		all += n
		if i < home {
			here += n
		}
	}
	return float64(here) / float64(all)
}

func TestAwayFactorIsATermOfTheCost(t *testing.T) {
	set, l := zoned(2, 1, 1.3)
	home, away := l.At(0).Stats(noon), l.At(1).Stats(noon)
	if home.Zone != 1 || away.Zone != 1.3 || math.Abs(away.Cost-1.3*home.Cost) > 1e-12 {
		t.Errorf("at home %v with factor %v, away %v with %v", home.Cost, home.Zone, away.Cost, away.Zone)
	}
	for _, off := range []float64{1, 0, -2} {
		set.SetAwayFactor(off)
		if got := l.At(1).Stats(noon); got.Zone != 1 || got.Cost != home.Cost {
			t.Errorf("with a factor of %v the cost is %v, want %v", off, got.Cost, home.Cost)
		}
	}
	if got := new(Set).Update(noon, []Member{{Addr: "a", Away: true}})[0].Stats(noon); got.Zone != 1 {
		t.Errorf("a set that was told no factor has %v", got.Zone)
	}
}

// TestZones says where the calls of an idle fleet go.
func TestZones(t *testing.T) {
	const calls = 20000
	tests := []struct {
		name     string
		policy   string
		n, home  int
		factor   float64
		least    float64 // share that stays
		most     float64
		exclude  bool // those of the own zone failed in this call
		shutHome bool // those of the own zone are ejected
	}{
		{name: "all are candidates", policy: NameAdaptive, n: 6, home: 2, factor: 1.3, least: 0.97, most: 0.99},
		{name: "a third of many", policy: NameAdaptive, n: 60, home: 20, factor: 1.3, least: 0.94, most: 0.99},
		{name: "a tenth of twenty", policy: NameAdaptive, n: 20, home: 2, factor: 1.3, least: 0.7, most: 0.8},
		{name: "a small factor decides as well", policy: NameAdaptive, n: 6, home: 2, factor: 1.05, least: 0.97, most: 0.99},
		{name: "precise", policy: NamePrecise, n: 6, home: 2, factor: 1.3, least: 0.97, most: 0.99},
		{name: "off", policy: NameAdaptive, n: 6, home: 2, factor: 1, least: 0.3, most: 0.37},
		{name: "nobody in the own zone", policy: NameAdaptive, n: 6, home: 0, factor: 1.3},
		{name: "round robin knows none", policy: NameRoundRobin, n: 6, home: 2, factor: 1.3, least: 0.3, most: 0.37},
		{name: "a retry leaves", policy: NameAdaptive, n: 6, home: 2, factor: 1.3, exclude: true},
		{name: "an ejected zone is left", policy: NameAdaptive, n: 6, home: 2, factor: 1.3, shutHome: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, l := zoned(tt.n, tt.home, tt.factor)
			r := Request{Now: noon}
			for i := range tt.home {
				if tt.exclude {
					r.Exclude = append(r.Exclude, l.At(i))
				}
				if tt.shutHome {
					l.At(i).set(Member{Gate: gate(shut)})
				}
			}
			counts := spread(policies(7)[tt.policy], l, r, calls)
			if got := stays(counts, tt.home); got < tt.least || got > tt.most {
				t.Errorf("%.3f of the calls stay, want %.2f to %.2f: %v", got, tt.least, tt.most, counts)
			}
		})
	}
}

// TestZoneSpills: a zone that is busier or slower than the others by more than
// they are far gives its calls away, and gets them back.
func TestZoneSpills(t *testing.T) {
	p := policies(3)[NameAdaptive]
	t.Run("busy", func(t *testing.T) {
		_, l := zoned(6, 2, 1.3)
		for i := range 2 {
			for range 2 {
				l.At(i).Begin(noon, new(Call))
			}
		}
		if got := stays(spread(p, l, Request{Now: noon}, 5000), 2); got > 0.01 {
			t.Errorf("%.3f of the calls stay in a zone that has two each in flight where others have none", got)
		}
	})
	t.Run("slow, and quick again", func(t *testing.T) {
		_, l := zoned(6, 2, 1.3)
		// One call after the other, ten in a second.
		run := func(from time.Time, took time.Duration) float64 {
			counts := make([]int, 6)
			for k := range 600 {
				now := from.Add(time.Duration(k) * 100 * ms)
				i := p.Pick(l, Request{Now: now})
				d := 5 * ms
				if i < 2 {
					d = took
				}
				call(l.At(i), now, d, Succeeded)
				if k >= 300 {
					counts[i]++
				}
			}
			return stays(counts, 2)
		}
		if got := run(noon, 5*ms); got < 0.95 {
			t.Errorf("%.3f stay while all are alike", got)
		}
		if got := run(noon.Add(time.Minute), 50*ms); got > 0.2 {
			t.Errorf("%.3f stay in a zone that is ten times slower", got)
		}
		if got := run(noon.Add(2*time.Minute), 5*ms); got < 0.95 {
			t.Errorf("%.3f have come back", got)
		}
	})
}

// TestWarmUpInTheOwnZone: an instance that has just started is spared even if
// it is the only one near.
func TestWarmUpInTheOwnZone(t *testing.T) {
	set := new(Set)
	set.SetAwayFactor(1.3)
	all := members(6)
	for i := range all {
		all[i].Away = i > 0
	}
	all[0].Started = noon
	l := NewList(set.Update(noon, all))
	counts := spread(policies(5)[NameAdaptive], l, Request{Now: noon}, 5000)
	if got := stays(counts, 1); got > SlowStartShare {
		t.Errorf("it takes %.3f of the calls from its first moment on", got)
	}
}

func TestPickWithZonesAllocatesNothing(t *testing.T) {
	_, l := zoned(40, 10, 1.3)
	p := policies(1)[NameAdaptive]
	if got := testing.AllocsPerRun(100, func() { p.Pick(l, Request{Now: noon}) }); got != 0 {
		t.Errorf("a pick allocates %v times", got)
	}
}
