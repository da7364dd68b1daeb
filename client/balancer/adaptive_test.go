package balancer

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"
)

func TestAdaptiveFollowsReports(t *testing.T) {
	l := NewList(endpoints(5))
	for i := range 5 {
		call(l.At(i), noon, 10*ms, Succeeded)
	}
	now := noon.Add(10 * ms)
	for i, load := range []int64{8, 12, 2, 5, 8} {
		l.At(i).Report(now, Report{InFlight: load, Failures: -1})
	}
	p := &Adaptive{Rand: seeded(1)}
	if counts := spread(p, l, Request{Now: now}, 100); counts[2] != 100 {
		t.Errorf("the least loaded one is picked %d times of 100", counts[2])
	}
	if counts := spread(p, l, Request{Now: now, Exclude: l.endpoints[2:3]}, 100); counts[3] != 100 {
		t.Errorf("without it the next one is picked %d times of 100", counts[3])
	}
	if counts := spread(p, l, Request{Now: now, Among: []int{0, 1, 99}}, 100); counts[0] != 100 {
		t.Errorf("among two the better one is picked %d times of 100", counts[0])
	}
	// What was known is forgotten: all are as the mean.
	for i, got := range spread(p, l, Request{Now: now.Add(time.Hour)}, 5000) {
		if i != 2 && got > 1300 {
			t.Errorf("an hour later endpoint %d gets %d of 5000", i, got)
		}
	}
}

// TestAdaptiveSpreadsLightLoad: a client that makes one call at a time does not
// send them all to the server that is quicker by a hair, but avoids a slow one.
func TestAdaptiveSpreadsLightLoad(t *testing.T) {
	took := []time.Duration{10 * ms, 10*ms + ms/2, 11 * ms, 30 * ms}
	l := NewList(endpoints(len(took)))
	p := &Adaptive{Rand: seeded(1)}
	counts := make([]int, len(took))
	now := noon
	const calls = 2000
	for range calls {
		i := p.Pick(l, Request{Now: now})
		counts[i]++
		call(l.At(i), now, took[i], Succeeded)
		now = now.Add(took[i])
	}
	for i, got := range counts[:3] {
		if got < calls/5 {
			t.Errorf("endpoint %d of three alike ones gets %d of %d calls: %v", i, got, calls, counts)
		}
	}
	if counts[3] > calls/10 {
		t.Errorf("the slow one gets %d of %d calls", counts[3], calls)
	}
}

func TestAdaptiveWeights(t *testing.T) {
	list := members(4)
	list[0].Weight = 300
	l := NewList(new(Set).Update(noon, list))
	p := &Adaptive{Rand: seeded(1)}
	for range 120 { // nothing ends
		l.At(p.Pick(l, Request{Now: noon})).Begin(noon, new(Call))
	}
	if got := l.At(0).Stats(noon).InFlight; got < 52 || got > 64 {
		t.Errorf("%d of 120 are in flight on the endpoint with half of the weight", got)
	}
}

// TestAdaptiveMixedFleet: ten clients call ten servers, of which the last five do
// not report. They must get neither much more nor much less than the others, how
// many of the calls a client sees may be its own.
func TestAdaptiveMixedFleet(t *testing.T) {
	const servers, calls = 10, 30000
	for _, clients := range []int{1, 10, 50} {
		for _, seed := range []uint64{1, 2} {
			rng := rand.New(rand.NewPCG(seed, 0))
			lists := make([]*List, clients)
			for c := range lists {
				lists[c] = NewList(endpoints(servers))
			}
			p := &Adaptive{Rand: seeded(seed)}
			var ends events
			var serving [servers]int64
			var latency [servers]float64 // as the server sees it
			silent := 0
			for i := range calls {
				at := time.Duration(i) * 130 * time.Microsecond // a load of 0.77
				for len(ends) > 0 && ends[0].at <= at {
					e := heap.Pop(&ends).(event)
					on := e.on % servers
					serving[on]--
					ep := lists[e.on/servers].At(on)
					ep.End(noon.Add(e.at), e.call, Succeeded)
					if on < servers/2 {
						ep.Report(noon.Add(e.at), Report{InFlight: serving[on], Latency: time.Duration(latency[on]), Failures: 0})
					}
				}
				client := rng.IntN(clients)
				on := p.Pick(lists[client], Request{Now: noon.Add(at)})
				if on >= servers/2 {
					silent++
				}
				c := new(Call)
				lists[client].At(on).Begin(noon.Add(at), c)
				took := time.Duration(rng.ExpFloat64() * float64(serving[on]+1) * float64(time.Millisecond))
				serving[on]++
				latency[on] += (float64(took) - latency[on]) / 50
				heap.Push(&ends, event{at: at + took, call: c, on: client*servers + on})
			}
			if silent < calls*35/100 || silent > calls*65/100 {
				t.Errorf("%d clients: the half that does not report gets %d of %d calls", clients, silent, calls)
			}
		}
	}
}

func TestPreciseProbes(t *testing.T) {
	slow, quick := 20*ms, ms
	tests := []struct {
		name  string
		n     int
		took  time.Duration
		after time.Duration
		do    func(*List)
		want  int
	}{
		{"all is old", 8, slow, time.Second, func(*List) {}, ProbeCount},
		{"all is fresh", 8, slow, 50 * ms, func(*List) {}, 0},
		{"one is fresh", 8, slow, time.Second, func(l *List) {
			l.At(5).Report(noon.Add(time.Second-Stale/2), Report{InFlight: 1, Failures: -1})
		}, 0},
		{"too quick to pay", 8, quick, time.Second, func(*List) {}, 0},
		{"only one", 1, slow, time.Second, func(*List) {}, 0},
		{"two", 2, slow, time.Second, func(*List) {}, 2},
		{"closed ones are not asked", 8, slow, time.Second, func(l *List) {
			for i := range 7 {
				closed := Gate(gate(shut))
				l.At(i).gate.Store(&closed)
			}
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := NewList(endpoints(tt.n))
			for i := range tt.n {
				call(l.At(i), noon.Add(-tt.took), tt.took, Succeeded)
				l.At(i).Report(noon, Report{InFlight: 1, Latency: tt.took})
			}
			tt.do(l)
			p := &Precise{Adaptive{Rand: seeded(1)}}
			got := p.Probe(l, Request{Now: noon.Add(tt.after)}, []int{-1})
			if got[0] != -1 || len(got)-1 != tt.want {
				t.Errorf("asks %v after -1, want %d", got, tt.want)
			}
		})
	}
	t.Run("those that do not report are not asked", func(t *testing.T) {
		l := NewList(endpoints(4))
		for i := range 4 {
			call(l.At(i), noon, slow, Succeeded)
		}
		p := &Precise{Adaptive{Rand: seeded(1)}}
		if got := p.Probe(l, Request{Now: noon.Add(time.Minute)}, nil); len(got) != 0 {
			t.Errorf("asks %v", got)
		}
	})
	t.Run("nothing is known", func(t *testing.T) {
		if got := new(Precise).Probe(NewList(endpoints(4)), Request{Now: noon}, nil); len(got) != 0 {
			t.Errorf("asks %v", got)
		}
	})
}
