package balancer

import (
	"container/heap"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func endpoints(n int) []*Endpoint {
	members := make([]Member, n)
	for i := range members {
		members[i].Addr = "10.0.0." + strconv.Itoa(i) + ":9000"
	}
	return new(Set).Update(noon, members)
}

func seeded(seed uint64) func() uint64 {
	return rand.New(rand.NewPCG(seed, seed)).Uint64
}

func TestPickFew(t *testing.T) {
	three := endpoints(3)
	for _, p := range []Policy{&LeastRequest{Rand: seeded(1)}, NewRoundRobin()} {
		tests := []struct {
			name                string
			candidates, exclude []*Endpoint
			want                map[int]bool
		}{
			{"none", nil, nil, map[int]bool{-1: true}},
			{"none but excluded", nil, three, map[int]bool{-1: true}},
			{"one", three[:1], nil, map[int]bool{0: true}},
			{"one, excluded", three[:1], three[:1], map[int]bool{0: true}},
			{"three", three, nil, map[int]bool{0: true, 1: true, 2: true}},
			{"first excluded", three, three[:1], map[int]bool{1: true, 2: true}},
			{"two excluded", three, three[1:], map[int]bool{0: true}},
			{"all excluded", three, three, map[int]bool{0: true, 1: true, 2: true}},
			{"a stranger excluded", three, endpoints(1), map[int]bool{0: true, 1: true, 2: true}},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				got := map[int]bool{}
				for range 300 {
					got[p.Pick(noon, tt.candidates, tt.exclude)] = true
				}
				for i := range got {
					if !tt.want[i] {
						t.Errorf("%T picked %d, allowed are %v", p, i, tt.want)
					}
				}
				if len(got) != len(tt.want) {
					t.Errorf("%T picked only %v of %v", p, got, tt.want)
				}
			})
		}
	}
}

func TestLeastRequestPrefersFewerInFlight(t *testing.T) {
	two := endpoints(2)
	p := &LeastRequest{Rand: seeded(1)}
	two[0].Begin()
	for range 100 {
		if got := p.Pick(noon, two, nil); got != 1 {
			t.Fatalf("picked %d, which has more in flight", got)
		}
	}
	two[0].End(Succeeded, time.Millisecond)
	counts := [2]int{}
	for range 1000 {
		counts[p.Pick(noon, two, nil)]++
	}
	if counts[0] < 400 || counts[1] < 400 {
		t.Errorf("ties were broken %v, want about even", counts)
	}
}

func TestLeastRequestWeights(t *testing.T) {
	two := new(Set).Update(noon, []Member{{Addr: "a", Weight: 300}, {Addr: "b", Weight: 100}})
	p := &LeastRequest{Rand: seeded(7)}

	t.Run("idle", func(t *testing.T) {
		heavy := 0
		for range 4000 {
			if p.Pick(noon, two, nil) == 0 {
				heavy++
			}
		}
		if heavy < 2800 || heavy > 3200 {
			t.Errorf("the endpoint with three quarters of the weight got %d of 4000", heavy)
		}
	})
	t.Run("busy", func(t *testing.T) {
		for range 100 { // nothing ends
			two[p.Pick(noon, two, nil)].Begin()
		}
		if got := two[0].Stats().InFlight; got < 70 || got > 80 {
			t.Errorf("%d of 100 are in flight on the endpoint with three quarters of the weight", got)
		}
	})
}

func TestRetryDrawIsEven(t *testing.T) {
	all := endpoints(5)
	p := &LeastRequest{Rand: seeded(3)}
	counts := make([]int, len(all))
	for range 4000 {
		counts[p.Pick(noon, all, all[2:3])]++
	}
	for i, n := range counts {
		if i == 2 {
			if n != 0 {
				t.Errorf("the excluded endpoint got %d", n)
			}
		} else if n < 850 || n > 1150 {
			t.Errorf("endpoint %d got %d of 4000, want about 1000", i, n)
		}
	}
}

func TestRoundRobinIsEven(t *testing.T) {
	all := endpoints(7)
	p := NewRoundRobin()
	counts := make([]int, len(all))
	for range 70 {
		counts[p.Pick(noon, all, nil)]++
	}
	for i, n := range counts {
		if n != 10 {
			t.Errorf("endpoint %d got %d of 70, want 10", i, n)
		}
	}
}

func TestNew(t *testing.T) {
	for _, name := range []string{NameLeastRequest, NameRoundRobin} {
		if p, err := New(name); err != nil || p == nil {
			t.Errorf("New(%q) = %v, %v", name, p, err)
		}
	}
	if _, err := New("fastest"); err == nil {
		t.Error("New accepted an unknown name")
	}
}

// event is the end of an attempt in the simulation.
type event struct {
	at    time.Duration
	start time.Duration
	on    int
}

type events []event

func (e *events) Len() int           { return len(*e) }
func (e *events) Less(i, j int) bool { return (*e)[i].at < (*e)[j].at }
func (e *events) Swap(i, j int)      { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }
func (e *events) Push(x any)         { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

// simulate sends 20 000 calls at a fixed rate to ten endpoints, the first of
// which takes twenty times as long, and returns the first one's share.
func simulate(p Policy, seed uint64) float64 {
	all := endpoints(10)
	rng := rand.New(rand.NewPCG(seed, 0))
	var ends events
	const calls = 20000
	slow := 0
	for i := range calls {
		now := time.Duration(i) * 100 * time.Microsecond // 10 000/s
		for len(ends) > 0 && ends[0].at <= now {
			e := heap.Pop(&ends).(event)
			all[e.on].End(Succeeded, e.at-e.start)
		}
		on := p.Pick(noon, all, nil)
		all[on].Begin()
		mean := 5 * time.Millisecond
		if on == 0 {
			slow++
			mean *= 20
		}
		heap.Push(&ends, event{at: now + time.Duration(rng.ExpFloat64()*float64(mean)), start: now, on: on})
	}
	return float64(slow) / calls
}

func TestSimulationSlowEndpoint(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		least := simulate(&LeastRequest{Rand: seeded(seed)}, seed)
		robin := simulate(NewRoundRobin(), seed)
		if robin < 0.099 || robin > 0.101 {
			t.Errorf("seed %d: round robin sends %.3f of the calls to the slow one, want a tenth", seed, robin)
		}
		if least > robin/2 {
			t.Errorf("seed %d: least request sends %.3f of the calls to the slow one, round robin %.3f", seed, least, robin)
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	all := endpoints(10)
	for _, p := range []Policy{&LeastRequest{}, NewRoundRobin()} {
		if got := testing.AllocsPerRun(100, func() { p.Pick(noon, all, all[:1]) }); got != 0 {
			t.Errorf("%T allocates %.0f times a pick", p, got)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, name := range []string{NameLeastRequest, NameRoundRobin} {
		for _, n := range []int{10, 1000} {
			b.Run(name+"/"+strconv.Itoa(n), func(b *testing.B) {
				p, err := New(name)
				if err != nil {
					b.Fatal(err)
				}
				all := endpoints(n)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						e := all[p.Pick(noon, all, nil)]
						e.Begin()
						e.End(Succeeded, time.Millisecond)
					}
				})
			})
		}
	}
}
