package balancer

import (
	"math"
	"testing"
	"time"
)

func TestSharesFollowWeights(t *testing.T) {
	weights := []int{100, 300, 1, 599}
	list := members(len(weights))
	for i, w := range weights {
		list[i].Weight = w
	}
	l := NewList(new(Set).Update(noon, list))
	for _, name := range []string{NameRandom, NameWeighted} {
		counts := spread(policies(1)[name], l, Request{Now: noon}, 100000)
		for i, w := range weights {
			want := float64(w) * 100
			margin := 4 * math.Sqrt(want) // of chance
			if name == NameWeighted {
				margin = 5 // there is none
			}
			if math.Abs(float64(counts[i])-want) > margin {
				t.Errorf("%s: weight %d of 1000 got %d of 100000, want %.0f±%.0f", name, w, counts[i], want, margin)
			}
		}
	}
}

// TestWeightedIsSmooth: calls to one endpoint come at even distances, so that it is
// never given two where others wait.
func TestWeightedIsSmooth(t *testing.T) {
	l := NewList(endpoints(10))
	p := &Weighted{}
	last, longest := make([]int, 10), 0
	for i := range 10000 {
		on := p.Pick(l, Request{Now: noon})
		if last[on] > 0 {
			longest = max(longest, i-last[on])
		}
		last[on] = i
	}
	if longest > 30 {
		t.Errorf("an endpoint of ten waited for %d calls", longest)
	}
}

func TestWeightedByReports(t *testing.T) {
	second := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	report := func(l *List, i int, at time.Time, r Report) {
		r.InFlight, r.Failures = -1, -1
		l.At(i).Report(at, r)
	}
	tests := []struct {
		name   string
		do     func(*List)
		weight []int
		at     time.Time
		want   []float64
	}{
		{"nothing reported", func(*List) {}, nil, second(20), []float64{1. / 3, 1. / 3, 1. / 3}},
		{"only one reports", func(l *List) {
			for s := range 15 {
				report(l, 0, second(s), Report{QPS: 100, Utilization: 0.1})
			}
		}, nil, second(15), []float64{1. / 3, 1. / 3, 1. / 3}},
		{"two report, the third gets the mean", func(l *List) {
			for s := range 15 {
				report(l, 0, second(s), Report{QPS: 100, Utilization: 0.25}) // 400
				report(l, 1, second(s), Report{QPS: 100, Utilization: 0.5})  // 200
			}
		}, nil, second(15), []float64{4. / 9, 2. / 9, 3. / 9}},
		{"errors count as utilization", func(l *List) {
			for s := range 15 {
				report(l, 0, second(s), Report{QPS: 100, EPS: 50, Utilization: 0.5}) // 100
				report(l, 1, second(s), Report{QPS: 100, Utilization: 0.5})          // 200
				report(l, 2, second(s), Report{QPS: 100, Utilization: 0.5})          // 200
			}
		}, nil, second(15), []float64{0.2, 0.4, 0.4}},
		{"the list's weights multiply", func(l *List) {
			for s := range 15 {
				for i := range 3 {
					report(l, i, second(s), Report{QPS: 100, Utilization: 0.5})
				}
			}
		}, []int{200, 100, 100}, second(15), []float64{0.5, 0.25, 0.25}},
		{"blackout", func(l *List) {
			for s := range 9 {
				report(l, 0, second(s), Report{QPS: 100, Utilization: 0.25})
				report(l, 1, second(s), Report{QPS: 100, Utilization: 0.5})
			}
		}, nil, second(9), []float64{1. / 3, 1. / 3, 1. / 3}},
		{"expired", func(l *List) {
			for s := range 15 {
				report(l, 0, second(s), Report{QPS: 100, Utilization: 0.25})
				report(l, 1, second(s), Report{QPS: 100, Utilization: 0.5})
			}
		}, nil, second(200), []float64{1. / 3, 1. / 3, 1. / 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := members(3)
			for i, w := range tt.weight {
				list[i].Weight = w
			}
			l := NewList(new(Set).Update(noon, list))
			p := &Weighted{}
			p.Pick(l, Request{Now: noon}) // a table that must not be used for ever
			tt.do(l)
			counts := spread(p, l, Request{Now: tt.at}, 9000)
			for i, want := range tt.want {
				if got := float64(counts[i]) / 9000; math.Abs(got-want) > 0.005 {
					t.Errorf("endpoint %d gets %.3f of the calls, want %.3f", i, got, want)
				}
			}
		})
	}
}
