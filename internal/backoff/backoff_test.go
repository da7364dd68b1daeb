package backoff

import (
	"math"
	"testing"
	"time"
)

func TestCeiling(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name        string
		base, limit time.Duration
		attempt     int
		want        time.Duration
	}{
		{"first", 200 * ms, 5 * time.Second, 0, 200 * ms},
		{"negative counts as first", 200 * ms, 5 * time.Second, -3, 200 * ms},
		{"doubles", 200 * ms, 5 * time.Second, 3, 1600 * ms},
		{"last below the limit", 200 * ms, 5 * time.Second, 4, 3200 * ms},
		{"limit", 200 * ms, 5 * time.Second, 5, 5 * time.Second},
		{"far beyond the limit", 200 * ms, 5 * time.Second, math.MaxInt, 5 * time.Second},
		{"base above limit", 10 * time.Second, time.Second, 0, time.Second},
		{"no overflow", time.Hour, math.MaxInt64, 1000, math.MaxInt64},
		{"no base", 0, time.Second, 3, 0},
		{"no limit", time.Second, 0, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Ceiling(tt.base, tt.limit, tt.attempt); got != tt.want {
				t.Errorf("Ceiling(%v, %v, %d) = %v, want %v", tt.base, tt.limit, tt.attempt, got, tt.want)
			}
		})
	}
}

func TestFullJitterUsesTheWholeInterval(t *testing.T) {
	const n = 10_000
	var low, high int
	for range n {
		d := FullJitter(200*time.Millisecond, 5*time.Second, 2)
		switch {
		case d < 0 || d > 800*time.Millisecond:
			t.Fatalf("FullJitter = %v, want 0 to 800ms", d)
		case d < 200*time.Millisecond:
			low++
		case d >= 600*time.Millisecond:
			high++
		}
	}
	// A quarter each, give or take ten standard deviations.
	for name, got := range map[string]int{"lowest": low, "highest": high} {
		if got < n/4-440 || got > n/4+440 {
			t.Errorf("%s quarter of the interval: %d of %d, want about %d", name, got, n, n/4)
		}
	}
}

func TestFullJitterLimits(t *testing.T) {
	if got := FullJitter(0, time.Second, 4); got != 0 {
		t.Errorf("FullJitter without a base = %v, want 0", got)
	}
	if got := FullJitter(math.MaxInt64, math.MaxInt64, 4); got < 0 {
		t.Errorf("FullJitter at the largest duration = %v, want no overflow", got)
	}
}

func TestAround(t *testing.T) {
	var low, high bool
	for range 1000 {
		d := Around(time.Minute, 0.5)
		if d < 30*time.Second || d > 90*time.Second {
			t.Fatalf("Around(1m, 0.5) = %v, want 30s to 90s", d)
		}
		low = low || d < 40*time.Second
		high = high || d > 80*time.Second
	}
	if !low || !high {
		t.Errorf("Around(1m, 0.5) stays near its middle in 1000 draws: low %v, high %v", low, high)
	}
	if got := Around(time.Second, 0); got != time.Second {
		t.Errorf("Around without a spread = %v, want 1s", got)
	}
	if got := Around(-1, 0.5); got != -1 {
		t.Errorf("Around(-1) = %v, want -1", got)
	}
}
