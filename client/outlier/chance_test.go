package outlier

import (
	"math"
	"testing"
	"time"
)

func TestDemanded(t *testing.T) {
	tests := []struct {
		consecutive int
		rate, want  float64
	}{
		{5, 0, 5},
		{5, spared, 5},
		{5, 0.05, 7},
		{5, 0.1, 9}, // 8.01; see TestWhoIsEjected for a hundred calls
		{5, 0.5, 27},
		{5, 0.9, 176},
		{5, 1, math.Inf(1)},
		{1, 0.1, 2},
		{3, 0.01, 3},
	}
	for _, tt := range tests {
		got := demanded(tt.consecutive, tt.rate)
		if got != tt.want {
			t.Errorf("%d in a row at a rate of %v: demanded %v, want %v", tt.consecutive, tt.rate, got, tt.want)
		}
		if tt.rate > spared && tt.rate < 1 && math.Pow(tt.rate, got) > math.Pow(spared, float64(tt.consecutive))*(1+1e-9) {
			t.Errorf("%v in a row at a rate of %v are likelier than they should be", got, tt.rate)
		}
	}
}

func TestChance(t *testing.T) {
	tests := []struct{ failed, calls, rate float64 }{
		{5, 10, 0.1}, {10, 10, 0.1}, {9, 10, 0.5}, {30, 50, 0.4}, {1, 3, 0.01}, {17, 20, 0.3}, {60, 100, 0.3},
	}
	for _, tt := range tests {
		// The definition, for numbers that are small enough for it.
		want := 0.0
		for k := tt.failed; k <= tt.calls; k++ {
			ways := 1.0
			for i := range int(k) {
				ways *= (tt.calls - float64(i)) / float64(i+1)
			}
			want += ways * math.Pow(tt.rate, k) * math.Pow(1-tt.rate, tt.calls-k)
		}
		if got := chance(tt.failed, tt.calls, tt.rate); math.Abs(got/want-1) > 0.01 {
			t.Errorf("%v of %v at %v: %v, want %v", tt.failed, tt.calls, tt.rate, got, want)
		}
	}
	for _, tt := range []struct{ failed, calls, rate, want float64 }{
		{5, 10, 0.5, 1}, {10, 10, 1, 1}, {0, 0, 0, 1}, {1, 10, 0, 0}, {9e8, 1e9, 0.5, 0},
	} {
		if got := chance(tt.failed, tt.calls, tt.rate); got != tt.want {
			t.Errorf("%v of %v at %v: %v, want %v", tt.failed, tt.calls, tt.rate, got, tt.want)
		}
	}
}

func TestTolerated(t *testing.T) {
	if got := tolerated(DefaultMinCalls); math.Abs(got/unlikely-1) > 1e-9 {
		t.Errorf("the default tolerates %v, want %v", got, unlikely)
	}
	if tolerated(100) != unlikely || tolerated(2) < 0.02 {
		t.Errorf("2 calls tolerate %v, 100 tolerate %v", tolerated(2), tolerated(100))
	}
}

// TestRest: what the others did is taken from their windows and from the newest
// outcomes of those that were called since.
func TestRest(t *testing.T) {
	f := newFleet(Config{Consecutive: 1000, MinCalls: 1000}, 6)
	f.call(1, 10, Succeeded) // before
	f.sleep(time.Second)
	f.call(2, 10, Succeeded)
	f.call(3, 3, Succeeded)
	f.call(3, 2, Failed)
	f.call(4, 9, Failed)
	f.call(0, 7, Failed) // not the rest
	since := f.now.Sub(t0)
	got := f.restLocked(since, f.records[0], 5, since)
	want := rest{calls: 34, failed: 11, lately: rate(0, 1) + rate(2, 3) + rate(5, 5), called: 3}
	if math.Abs(got.lately-want.lately) > 1e-9 {
		t.Errorf("lately is %v, want %v", got.lately, want.lately)
	}
	if got.lately = want.lately; got != want {
		t.Errorf("the rest is %+v, want %+v", got, want)
	}
}
