package main

import (
	"slices"
	"time"
)

// report is what a run has measured.
type report struct {
	plan    *plan
	began   time.Time
	samples map[cell]map[string][]sample // by contender, one for each round
}

func newReport(p *plan) *report {
	return &report{plan: p, began: time.Now(), samples: map[cell]map[string][]sample{}}
}

func (r *report) add(c cell, name string, s sample) {
	if r.samples[c] == nil {
		r.samples[c] = map[string][]sample{}
	}
	r.samples[c][name] = append(r.samples[c][name], s)
}

// has reports whether a contender was measured in a cell.
func (r *report) has(c cell, name string) bool { return len(r.samples[c][name]) > 0 }

// value is the median over the rounds.
func (r *report) value(c cell, name string, of func(*sample) float64) float64 {
	var all []float64
	for _, s := range r.samples[c][name] {
		all = append(all, of(&s))
	}
	return median(all)
}

// compare is the median over the rounds of how two contenders compare in the same
// round.
func (r *report) compare(c cell, name, to string, of func(*sample) float64, how func(a, b float64) float64) float64 {
	var all []float64
	a, b := r.samples[c][name], r.samples[c][to]
	for i := range min(len(a), len(b)) {
		all = append(all, how(of(&a[i]), of(&b[i])))
	}
	return median(all)
}

// ratio and added compare with bare.
func (r *report) ratio(c cell, name string, of func(*sample) float64) float64 {
	return r.compare(c, name, nameBare, of, quotient)
}

func (r *report) added(c cell, name string, of func(*sample) float64) float64 {
	return r.compare(c, name, nameBare, of, difference)
}

func quotient(a, b float64) float64   { return a / b }
func difference(a, b float64) float64 { return a - b }

// median is the middle value, 0 of none.
func median(all []float64) float64 {
	n := len(all)
	if n == 0 {
		return 0
	}
	slices.Sort(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// What can be told of a sample, beside its methods, in microseconds.
func p50(s *sample) float64  { return micros(s.P50) }
func p99(s *sample) float64  { return micros(s.P99) }
func p999(s *sample) float64 { return micros(s.P999) }

func micros(d time.Duration) float64 { return d.Seconds() * 1e6 }

// target is what Plinth may cost, and what it is to cost one day.
type target struct {
	what        string
	limit, goal float64
	atLeast     bool // the measured value must not be below the limit, else not above
	format      string
	// measured is the worst value of all cells it is about; ok is false where
	// none was measured.
	measured func(r *report) (worst float64, where cell, ok bool)
}

func (t *target) met(v, bound float64) bool {
	if t.atLeast {
		return v >= bound
	}
	return v <= bound
}

// What a call of Plinth is to allocate at most beyond one of bare grpc-go, both
// sides together; and what it allocates now, with a margin, which is held by the
// test of this package. Lower the latter whenever the former comes nearer.
const (
	maxAllocs  = 35
	maxBytes   = 3000
	heldAllocs = 35
	heldBytes  = 4100
)

func targets() []target {
	plinth := func(of func(*sample) float64, how func(a, b float64) float64) func(*report, cell) (float64, bool) {
		return func(r *report, c cell) (float64, bool) {
			return r.compare(c, namePlinth, nameBare, of, how), r.has(c, namePlinth)
		}
	}
	rival := func(r *report, c cell) (float64, bool) {
		return r.compare(c, nameGoZero, namePlinth, (*sample).rate, quotient), r.has(c, nameGoZero) && r.has(c, namePlinth)
	}
	return []target{
		{what: "throughput, of bare's, in every cell", limit: 0.8, goal: 1, atLeast: true, format: "%.2f×", measured: worst(plinth((*sample).rate, quotient), true, 0)},
		{what: "CPU time for a call, of bare's, 32 at a time", limit: 1.25, goal: 1.05, format: "%.2f×", measured: worst(plinth((*sample).cpu, quotient), false, mainCell().Concurrency)},
		{what: "p99, of bare's, in every cell", limit: 1.4, goal: 1.1, format: "%.2f×", measured: worst(plinth(p99, quotient), false, 0)},
		{what: "allocations for a call beyond bare's", limit: maxAllocs, goal: 25, format: "%+.1f", measured: worst(plinth((*sample).allocs, difference), false, 0)},
		{what: "bytes allocated for a call beyond bare's", limit: maxBytes, goal: maxBytes, format: "%+.0f", measured: worst(plinth((*sample).bytes, difference), false, 0)},
		{what: "go-zero's throughput, of Plinth's, 32 at a time", limit: 0.5, goal: 0.5, format: "%.2f×", measured: worst(rival, false, mainCell().Concurrency)},
	}
}

// worst looks for the worst cell of those with a concurrency, 0 for all.
func worst(of func(*report, cell) (float64, bool), lowest bool, concurrency int) func(*report) (float64, cell, bool) {
	return func(r *report) (v float64, where cell, ok bool) {
		for _, c := range r.plan.cells {
			if concurrency != 0 && c.Concurrency != concurrency {
				continue
			}
			if x, measured := of(r, c); measured && (!ok || lowest && x < v || !lowest && x > v) {
				v, where, ok = x, c, true
			}
		}
		return v, where, ok
	}
}
