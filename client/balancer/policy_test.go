package balancer

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	if names := Names(); !slices.IsSorted(names) || len(names) != len(policies(1)) {
		t.Errorf("names are %v, want all, sorted", names)
	}
	for name := range policies(1) {
		if p, err := New(name); err != nil || p == nil {
			t.Errorf("New(%q) = %v, %v", name, p, err)
		}
	}
	_, err := New("fastest")
	if err == nil || !strings.Contains(err.Error(), `"fastest"`) || !strings.Contains(err.Error(), "adaptive, consistent_hash") {
		t.Errorf("the error of an unknown name is %v", err)
	}
}

// TestPickKeepsTheOrder holds for every policy whom it may pick at all: open ones,
// then open ones that failed in this call, then the others.
func TestPickKeepsTheOrder(t *testing.T) {
	tests := []struct {
		name           string
		n              int
		shut, excluded []int
		want           []int
	}{
		{"none", 0, nil, nil, []int{-1}},
		{"one", 1, nil, nil, []int{0}},
		{"one, excluded", 1, nil, []int{0}, []int{0}},
		{"one, closed", 1, []int{0}, nil, []int{0}},
		{"three", 3, nil, nil, []int{0, 1, 2}},
		{"first excluded", 3, nil, []int{0}, []int{1, 2}},
		{"two excluded", 3, nil, []int{1, 2}, []int{0}},
		{"all excluded", 3, nil, []int{0, 1, 2}, []int{0, 1, 2}},
		{"first closed", 3, []int{0}, nil, []int{1, 2}},
		{"two closed", 3, []int{0, 2}, nil, []int{1}},
		{"all closed", 3, []int{0, 1, 2}, nil, []int{0, 1, 2}},
		{"the only open one excluded", 3, []int{0, 2}, []int{1}, []int{1}},
		{"all closed, one excluded", 3, []int{0, 1, 2}, []int{1}, []int{0, 2}},
		{"many, most closed", 30, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27}, nil, []int{28, 29}},
		{"many, but one closed or excluded", 30, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27}, []int{29}, []int{28}},
	}
	for _, tt := range tests {
		for name, p := range policies(7) {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				list := members(tt.n)
				for _, i := range tt.shut {
					list[i].Gate = gate(shut)
				}
				l := NewList(new(Set).Update(noon, list))
				var r Request
				for _, i := range tt.excluded {
					r.Exclude = append(r.Exclude, l.At(i))
				}
				r.Now = noon
				got := map[int]bool{}
				for range 600 {
					got[p.Pick(l, r)] = true
				}
				for i := range got {
					if !slices.Contains(tt.want, i) {
						t.Errorf("picked %d, allowed are %v", i, tt.want)
					}
				}
				if name != NamePickFirst && len(got) != len(tt.want) {
					t.Errorf("picked only %v of %v", got, tt.want)
				}
			})
		}
	}
}

func TestRetryDrawIsEven(t *testing.T) {
	for _, n := range []int{5, 40} { // less and more than are drawn
		for name, p := range policies(3) {
			if name == NamePickFirst {
				continue
			}
			l := NewList(endpoints(n))
			r := Request{Now: noon, Exclude: l.endpoints[2:3]}
			counts := spread(p, l, r, 1000*(n-1))
			low, high := 850, 1150
			if name == NameConsistentHash {
				low, high = 500, 1800 // the places on the ring are random
			}
			for i, got := range counts {
				if i == 2 && got != 0 || i != 2 && (got < low || got > high) {
					t.Errorf("%s: endpoint %d of %d, without the third, got %d of %d", name, i, n, got, 1000*(n-1))
				}
			}
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for name := range policies(1) {
		for _, n := range []int{10, 1000} {
			p, l := mustNew(t, name), fleetOf(n)
			r := Request{Now: noon.Add(20 * ms), Exclude: l.endpoints[:1], Key: "customer-4711"}
			var c Call
			if got := testing.AllocsPerRun(100, func() {
				e := l.At(p.Pick(l, r))
				e.Begin(r.Now, &c)
				e.End(r.Now, &c, Succeeded)
				e.Report(r.Now, Report{InFlight: 1, Latency: ms})
			}); got != 0 {
				t.Errorf("%s allocates %.0f times an attempt among %d", name, got, n)
			}
		}
	}
	p, l := &Precise{}, fleetOf(20)
	l.At(0).fleet.latency.value.store(float64(time.Second))
	var buf [ProbeCount]int
	if got := testing.AllocsPerRun(100, func() { p.Probe(l, Request{Now: noon.Add(time.Minute)}, buf[:0]) }); got != 0 {
		t.Errorf("Probe allocates %.0f times", got)
	}
}

// event is the end of an attempt in the simulation.
type event struct {
	at   time.Duration
	call *Call
	on   int
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

// play sends calls at a fixed rate to the endpoints of a list; took draws how long
// one takes and how it ends. It returns how many each endpoint got.
func play(p Policy, l *List, calls int, perSecond time.Duration, took func(on int) (time.Duration, Outcome)) []int {
	var ends events
	counts := make([]int, l.Len())
	for i := range calls {
		at := time.Duration(i) * time.Second / perSecond
		for len(ends) > 0 && ends[0].at <= at {
			e := heap.Pop(&ends).(event)
			_, o := took(e.on)
			l.At(e.on).End(noon.Add(e.at), e.call, o)
		}
		on := p.Pick(l, Request{Now: noon.Add(at)})
		counts[on]++
		c := new(Call)
		l.At(on).Begin(noon.Add(at), c)
		d, _ := took(on)
		heap.Push(&ends, event{at: at + d, call: c, on: on})
	}
	return counts
}

// TestTroubledEndpoint gives one of ten endpoints a trouble and measures its part
// of 20 000 calls.
func TestTroubledEndpoint(t *testing.T) {
	tests := []struct {
		name    string
		trouble func(d time.Duration) (time.Duration, Outcome)
		most    map[string]float64 // of the calls
	}{
		{"20 times slower", func(d time.Duration) (time.Duration, Outcome) { return 20 * d, Succeeded }, map[string]float64{NameAdaptive: 0.01, NamePrecise: 0.01, NameLeastRequest: 0.05}},
		{"fails at once", func(time.Duration) (time.Duration, Outcome) { return 0, Failed }, map[string]float64{NameAdaptive: 0.001, NamePrecise: 0.001}},
		{"hangs", func(time.Duration) (time.Duration, Outcome) { return time.Second, Failed }, map[string]float64{NameAdaptive: 0.001, NamePrecise: 0.001, NameLeastRequest: 0.03}},
	}
	for _, tt := range tests {
		for _, seed := range []uint64{1, 2, 3} {
			for name, most := range tt.most {
				rng := rand.New(rand.NewPCG(seed, 0))
				counts := play(policies(seed)[name], NewList(endpoints(10)), 20000, 10000, func(on int) (time.Duration, Outcome) {
					d := time.Duration(rng.ExpFloat64() * float64(5*ms))
					if on == 0 {
						return tt.trouble(d)
					}
					return d, Succeeded
				})
				if got := float64(counts[0]) / 20000; got > most {
					t.Errorf("%s, seed %d: the one that %s gets %.4f of the calls, want at most %.4f", name, seed, tt.name, got, most)
				}
			}
		}
	}
}
