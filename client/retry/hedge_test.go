package retry

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// learnt returns a hedge that has seen n latencies, evenly spread up to most.
func learnt(n int, most time.Duration) *Hedge {
	h := &Hedge{}
	for i := range n {
		h.Observe(t0, most*time.Duration(i+1)/time.Duration(n))
	}
	return h
}

func TestHedgeDelay(t *testing.T) {
	tests := []struct {
		name       string
		hedge      *Hedge
		after      time.Duration
		least, top time.Duration // 0 = not known
	}{
		{"nothing seen", &Hedge{}, 0, 0, 0},
		{"too few", learnt(HedgeSamples-1, time.Second), 0, 0, 0},
		{"just enough", learnt(HedgeSamples, time.Second), 0, 900 * time.Millisecond, time.Second},
		{"many", learnt(100_000, time.Second), 0, 940 * time.Millisecond, 960 * time.Millisecond},
		{"very fast", learnt(1000, 50*time.Microsecond), 0, MinHedgeDelay, MinHedgeDelay},
		{"very slow", learnt(1000, time.Hour), 0, 2 * time.Minute, 3 * time.Minute},
		{"in the next window", learnt(1000, time.Second), HedgeWindow, 900 * time.Millisecond, time.Second},
		{"two windows later", learnt(1000, time.Second), 2 * HedgeWindow, 0, 0},
		{"a day later", learnt(1000, time.Second), 24 * time.Hour, 0, 0},
		{"a clock that went back", learnt(1000, time.Second), -time.Hour, 900 * time.Millisecond, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.hedge.Delay(t0.Add(tt.after))
			if ok != (tt.top > 0) || ok && (got < tt.least || got > tt.top) {
				t.Errorf("the delay is %s, %v; want from %s to %s", got, ok, tt.least, tt.top)
			}
		})
	}
}

// TestHedgeWindows: an old latency is forgotten between one and two windows
// later, while new ones keep coming.
func TestHedgeWindows(t *testing.T) {
	h := &Hedge{}
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Second) }
	for i := range 300 {
		latency := 100 * time.Millisecond
		if i >= 60 {
			latency = 10 * time.Millisecond
		}
		h.Observe(at(i), latency)
		got, ok := h.Median(at(i))
		switch {
		case i < HedgeSamples-1:
			if ok {
				t.Fatalf("second %d: %s is known from %d samples", i, got, i+1)
			}
		case i < 60 && got < 90*time.Millisecond, i >= 180 && got > 11*time.Millisecond:
			t.Fatalf("second %d: the median is %s", i, got)
		}
		if delay, ok := h.Delay(at(i)); i >= 180 && (!ok || delay > 12*time.Millisecond) {
			t.Fatalf("second %d: the delay is %s, %v", i, delay, ok)
		}
	}
}

// TestHedgeAfterSilence: a method that was not called for a day learns anew.
func TestHedgeAfterSilence(t *testing.T) {
	h := learnt(1000, time.Second)
	day := t0.Add(24 * time.Hour)
	for range HedgeSamples {
		h.Observe(day, 20*time.Millisecond)
	}
	if got, ok := h.Delay(day); !ok || got > 25*time.Millisecond {
		t.Errorf("learned %s, %v from latencies of 20ms", got, ok)
	}
}

func TestHedgePlan(t *testing.T) {
	h := learnt(1000, time.Second)
	call := Pending{Attempts: 1, Idempotent: true, Remaining: noDeadline}
	with := func(change func(*Pending)) Pending {
		c := call
		change(&c)
		return c
	}
	on := HedgePolicy{Enabled: true}
	fixed := HedgePolicy{Enabled: true, Delay: 30 * time.Millisecond}
	tests := []struct {
		name   string
		hedge  *Hedge
		policy HedgePolicy
		call   Pending
		want   time.Duration // 0 = no hedge
	}{
		{"off", h, HedgePolicy{}, call, 0},
		{"off with a delay", h, HedgePolicy{Delay: time.Second}, call, 0},
		{"learned", h, on, call, 950 * time.Millisecond},
		{"nothing learned", &Hedge{}, on, call, 0},
		{"fixed", &Hedge{}, fixed, call, 30 * time.Millisecond},
		{"not idempotent", h, on, with(func(c *Pending) { c.Idempotent = false }), 0},
		{"stream", h, on, with(func(c *Pending) { c.Stream = true }), 0},
		{"a retry", h, on, with(func(c *Pending) { c.Attempts = 2 }), 0},
		{"no time", h, fixed, with(func(c *Pending) { c.Remaining = 30 * time.Millisecond }), 0},
		{"some time", h, fixed, with(func(c *Pending) { c.Remaining = 31 * time.Millisecond }), 30 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.hedge.Plan(t0, tt.policy, tt.call)
			if ok != (tt.want > 0) || ok && (got-tt.want).Abs() > tt.want/20 {
				t.Errorf("planned %s, %v; want %s", got, ok, tt.want)
			}
		})
	}
}

func TestHedgeAllow(t *testing.T) {
	known := learnt(1000, time.Second) // median 500 ms
	call := Pending{Attempts: 1, Idempotent: true, Remaining: time.Second}
	with := func(change func(*Pending)) Pending {
		c := call
		change(&c)
		return c
	}
	tests := []struct {
		name   string
		hedge  *Hedge
		policy Policy
		call   Pending
		tokens int
		want   Reason
	}{
		{"allowed", known, Policy{}, call, BudgetMax, ReasonHedge},
		{"allowed, nothing learned", &Hedge{}, Policy{}, call, 1, ReasonHedge},
		{"not idempotent", known, Policy{}, with(func(c *Pending) { c.Idempotent = false }), BudgetMax, NotIdempotent},
		{"stream", known, Policy{}, with(func(c *Pending) { c.Stream = true }), BudgetMax, NotReplayable},
		{"second attempt", known, Policy{}, with(func(c *Pending) { c.Attempts = 2 }), BudgetMax, NoAttempts},
		{"one attempt only", known, Policy{MaxAttempts: 1}, call, BudgetMax, NoAttempts},
		{"less left than a call takes", known, Policy{}, with(func(c *Pending) { c.Remaining = 400 * time.Millisecond }), BudgetMax, NoTime},
		{"deadline over", &Hedge{}, Policy{}, with(func(c *Pending) { c.Remaining = 0 }), BudgetMax, NoTime},
		{"no budget", known, Policy{}, call, 0, NoBudget},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			budget := NewBudget(t0)
			budget.Withdraw(t0, BudgetMax-tt.tokens)
			got := tt.hedge.Allow(t0, tt.policy, tt.call, budget)
			if got.Reason != tt.want || got.Retry != (tt.want == ReasonHedge) || got.Delay != 0 {
				t.Errorf("decided %+v, want %s", got, tt.want)
			}
			want := tt.tokens
			if got.Retry {
				want -= Cost
			}
			if left := budget.Tokens(t0); left != float64(want) {
				t.Errorf("%v tokens are left, want %d", left, want)
			}
		})
	}
}

func TestHedgePolicyValidate(t *testing.T) {
	for _, p := range []HedgePolicy{{}, {Enabled: true}, {Delay: time.Second}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if err := (HedgePolicy{Delay: -1}).Validate(); err == nil || !strings.Contains(err.Error(), "Hedge.Delay to -1ns:") {
		t.Errorf("error is %v", err)
	}
}

// TestSimulationHedge drives a method of long-tailed latencies, and one whose
// latencies grow tenfold in the middle: what is learned stays true although the
// slow attempts are cut off by their hedges, and the budget holds.
func TestSimulationHedge(t *testing.T) {
	for _, grows := range []bool{false, true} {
		rng := rand.New(rand.NewPCG(7, 7))
		draw := func(second int) time.Duration {
			latency := 10 * math.Exp(rng.NormFloat64()) // p50 10 ms, p95 52 ms
			if grows && second >= 150 {
				latency *= 10
			}
			return time.Duration(latency * float64(time.Millisecond))
		}
		const rate = 200
		hedge, budget := &Hedge{}, NewBudget(t0)
		hedges, calls := 0, 0
		var plain, hedged []time.Duration
		for i := range 300 * rate {
			second := i / rate
			now := t0.Add(time.Duration(i) * time.Second / rate)
			budget.Deposit(now)
			calls++
			call := Pending{Attempts: 1, Idempotent: true, Remaining: 3 * time.Second}
			first := draw(second)
			took := first
			if delay, ok := hedge.Plan(now, HedgePolicy{Enabled: true}, call); ok && first > delay {
				call.Remaining -= delay
				if hedge.Allow(now.Add(delay), Policy{}, call, budget).Retry {
					hedges++
					took = min(first, delay+draw(second))
				}
			}
			hedge.Observe(now.Add(took), min(first, took))
			if second >= 270 {
				plain, hedged = append(plain, first), append(hedged, took)
			}
		}
		if got := float64(hedges) / float64(calls); got < 0.04 || got > 0.08 {
			t.Errorf("grows %v: %.3f hedges a call, want about 0.05", grows, got)
		}
		slices.Sort(plain)
		slices.Sort(hedged)
		truth := plain[len(plain)*95/100]
		got, ok := hedge.Delay(t0.Add(300 * time.Second))
		if !ok || math.Abs(float64(got)/float64(truth)-1) > 0.15 {
			t.Errorf("grows %v: learned %s, the 95th percentile is %s", grows, got, truth)
		}
		before, after := plain[len(plain)*99/100], hedged[len(hedged)*99/100]
		if float64(after) > 0.8*float64(before) {
			t.Errorf("grows %v: the 99th percentile is %s with hedges and %s without", grows, after, before)
		}
	}
}

// TestHedgeOutage: when every call is slow all of a sudden, the budget and not
// the number of slow calls bounds the hedges.
func TestHedgeOutage(t *testing.T) {
	h, budget := learnt(10_000, 10*time.Millisecond), NewBudget(t0)
	hedges := 0
	const rate = 1000
	for i := range 10 * rate {
		now := t0.Add(time.Duration(i) * time.Second / rate)
		budget.Deposit(now)
		call := Pending{Attempts: 1, Idempotent: true, Remaining: time.Second}
		if _, ok := h.Plan(now, HedgePolicy{Enabled: true}, call); ok && h.Allow(now, Policy{}, call, budget).Retry {
			hedges++
		}
	}
	// 20 at first, a tenth of the calls, and one a second.
	if hedges > 20+rate+10 || hedges < rate {
		t.Errorf("%d hedges for %d calls", hedges, 10*rate)
	}
}

func TestHedgeConcurrent(t *testing.T) {
	h := &Hedge{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 5000 {
				now := t0.Add(time.Duration(i) * 10 * time.Millisecond)
				h.Observe(now, 20*time.Millisecond)
				h.Delay(now)
				h.Median(now)
			}
		})
	}
	wg.Wait()
	if got, ok := h.Delay(t0.Add(time.Minute)); !ok || got < 18*time.Millisecond || got > 23*time.Millisecond {
		t.Errorf("learned %s, %v from latencies of 20ms", got, ok)
	}
}

func TestHistogram(t *testing.T) {
	if floor(0) != 0 || floor(cells) < 2*time.Minute {
		t.Errorf("the buckets reach from %s to %s", floor(0), floor(cells))
	}
	for i := range cells {
		low, high := floor(i), floor(i+1)
		if cell(low) != i || cell(high-1) != i {
			t.Errorf("bucket %d from %s to %s: these are in %d and %d", i, low, high, cell(low), cell(high-1))
		}
		if width := high - low; width > max(low/8, time.Microsecond) {
			t.Errorf("bucket %d from %s to %s is wider than an eighth", i, low, high)
		}
	}
	for _, latency := range []time.Duration{-time.Second, math.MinInt64} {
		if cell(latency) != 0 {
			t.Errorf("%s is in bucket %d", latency, cell(latency))
		}
	}
	if cell(math.MaxInt64) != cells-1 {
		t.Errorf("the longest is in bucket %d of %d", cell(math.MaxInt64), cells)
	}
}

func TestHedgeAllocates(t *testing.T) {
	h := learnt(100, time.Second)
	i := 0
	if got := testing.AllocsPerRun(1000, func() {
		i++
		now := t0.Add(time.Duration(i) * time.Second)
		h.Observe(now, time.Second)
		h.Delay(now)
	}); got != 0 {
		t.Errorf("%v allocations a call", got)
	}
}

func BenchmarkHedge(b *testing.B) {
	h := learnt(1000, time.Second)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now := time.Now()
			h.Plan(now, HedgePolicy{Enabled: true}, Pending{Attempts: 1, Idempotent: true, Remaining: noDeadline})
			h.Observe(now, 10*time.Millisecond)
		}
	})
}
