package sim

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// blind picks at random, so that every server sees a Poisson process.
var blind = Policy{Name: "random", New: func(e *Env) Client { return newRival(e, randomly{}) }}

type randomly struct{ unmoved }

func (randomly) pick(r *Rival, _ time.Duration, servers []int) int {
	return servers[r.env.Rand.IntN(len(servers))]
}

// erlangC is the mean time in a system of c cores at that load, in demands.
// Sharing the cores evenly gives the same mean as a queue does for exponential
// demand, and unlike a queue for any other demand, too.
func erlangC(c int, load float64) float64 {
	a := load * float64(c)
	sum, term := 0., 1.
	for k := range c {
		sum += term
		term *= a / float64(k+1)
	}
	wait := term / (1 - load) / (sum + term/(1-load))
	return 1 + wait/(float64(c)*(1-load))
}

func TestErlangC(t *testing.T) {
	for _, tt := range []struct {
		cores int
		load  float64
		even  bool
	}{{4, 0.5, true}, {4, 0.8, true}, {2, 0.7, true}, {8, 0.8, true}, {4, 0.7, false}} {
		measured := 100 * time.Second
		if raced {
			measured = 20 * time.Second
		}
		sc := Scenario{Clients: 10, Servers: 20, Cores: []int{tt.cores}, Load: tt.load, Even: tt.even, Measured: measured}
		r := Run(sc, blind, 7)
		var sum time.Duration
		for _, d := range r.latencies {
			sum += d - 2*(delayFixed+delayRandom)
		}
		got := float64(sum) / float64(len(r.latencies)) / float64(Demand)
		want := erlangC(tt.cores, tt.load)
		tolerance := 0.02
		if raced || !tt.even {
			tolerance = 0.04 // fewer calls, or such that differ more
		}
		if math.Abs(got/want-1) > tolerance {
			t.Errorf("%d cores at %.2f, even %t: mean of %d calls is %.4f demands, Erlang C says %.4f", tt.cores, tt.load, tt.even, r.Calls, got, want)
		}
	}
}

func TestDemand(t *testing.T) {
	for _, even := range []bool{true, false} {
		d := newDemand(even)
		rng := rand.New(rand.NewPCG(1, 2))
		const n = 2_000_000
		sum, most := 0., 0.
		for range n {
			x := d.draw(rng)
			sum += x
			most = max(most, x)
		}
		if mean := sum / n / float64(Demand); math.Abs(mean-1) > 0.01 {
			t.Errorf("even %t: mean demand is %.4f of what it should be", even, mean)
		}
		if !even && most > paretoMax*float64(Demand)*1.0001 {
			t.Errorf("a call demands %.1f times the mean", most/float64(Demand))
		}
	}
}

func TestRunsAreTheSameAndPaired(t *testing.T) {
	sc := Scenario{Clients: 20, Servers: 5, Cores: []int{4}, Load: 0.7, Antagonists: true, Failing: 1, WarmUp: time.Second, Measured: 3 * time.Second}
	calls := 0
	for _, p := range Rivals() {
		first, again, other := Run(sc, p, 1), Run(sc, p, 1), Run(sc, p, 2)
		if !reflect.DeepEqual(first, again) {
			t.Errorf("%s: the same run gave another result", p.Name)
		}
		if slices.Equal(first.latencies, other.latencies) {
			t.Errorf("%s: another seed gave the same result", p.Name)
		}
		if calls != 0 && first.Calls != calls {
			t.Errorf("%s: %d calls, others had %d", p.Name, first.Calls, calls)
		}
		calls = first.Calls
		if want := sc.Rate() * 3; math.Abs(float64(calls)/want-1) > 0.1 {
			t.Errorf("%d calls, want about %.0f", calls, want)
		}
	}
}

func TestRate(t *testing.T) {
	want := map[string]float64{
		"even-80":           0.8 * 80 * 100,
		"antag-70":          0.7 * 80 * 100 * antagonistSpeed,
		"hetero2v8-85":      0.85 * 100 * 100,
		"one-slow5x-70":     0.7 * (76 + 0.8) * 100,
		"onset-3slow10x-70": 0.7 * 80 * 100, // the load does not shrink when servers turn slow
		"blackhole-70":      0.7 * 76 * 100,
		"M3-hang-60":        0.6 * 8 * 100,
	}
	for _, sc := range Scenarios() {
		if w, ok := want[sc.Name]; ok && math.Abs(sc.Rate()-w) > 1e-6 {
			t.Errorf("%s: %.1f calls/s, want %.1f", sc.Name, sc.Rate(), w)
		}
		delete(want, sc.Name)
	}
	if len(want) > 0 {
		t.Errorf("there is no scenario for %v", want)
	}
}

func TestAgenda(t *testing.T) {
	var a agenda
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		a.push(event{at: time.Duration(rng.IntN(100))})
		if rng.IntN(3) == 0 {
			a.pop()
		}
	}
	last := a.pop()
	for len(a.events) > 0 {
		e := a.pop()
		if e.before(&last) {
			t.Fatalf("event %d at %d comes after event %d at %d", e.seq, e.at, last.seq, last.at)
		}
		last = e
	}
}

// TestServerShares compares the heap with the sharing of cores played out in
// small steps.
func TestServerShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		s := &server{cores: 2, slow: 1 + rng.Float64(), due: never}
		left := map[*call]float64{}
		now := time.Duration(0)
		for range 200 {
			switch n := rng.IntN(3); {
			case n == 0 && len(s.calls) > 0:
				c := s.calls[rng.IntN(len(s.calls))]
				s.remove(c)
				delete(left, c)
			case n == 1:
				s.slow = 1 + rng.Float64()
			default:
				c := &call{demand: 1e6 + rng.Float64()*1e7}
				s.add(c)
				left[c] = c.demand
			}
			now = min(s.next(now), now+time.Duration(rng.IntN(3e6)))
			speed := s.speed() * float64(now-s.advanced)
			s.advance(now)
			for c := range left {
				left[c] -= speed
				if got := c.ends - s.received; math.Abs(got-left[c]) > 10 {
					t.Fatalf("a call has %.0f ns to go, want %.0f", got, left[c])
				}
			}
			for len(s.calls) > 0 && s.calls[0].ends <= s.received+1 {
				delete(left, s.calls[0])
				s.remove(s.calls[0])
			}
			for c, l := range left {
				if l < -10 {
					t.Fatalf("a call is overdue by %.0f ns, its place is %d", -l, c.place)
				}
			}
		}
	}
}

func TestTracker(t *testing.T) {
	var tr tracker
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	for i := range 1000 {
		tr.success(second(float64(i)/100), 10*time.Millisecond, 3)
	}
	r := tr.report(second(10))
	if math.Abs(r.QPS-100) > 2 || r.Latency != 10*time.Millisecond || r.Failures != 0 {
		t.Errorf("100 calls/s of 10 ms are reported as %+v", r)
	}
	tr.failure(second(10), time.Millisecond)
	if r := tr.report(second(10)); r.Latency != 10*time.Millisecond || r.EPS < 0.9 {
		t.Errorf("a failure of 1 ms is reported as %+v", r)
	}
	tr.failure(second(10), time.Second)
	if r := tr.report(second(10)); r.Latency <= 10*time.Millisecond {
		t.Errorf("a failure of 1 s is reported as %+v", r)
	}
	if got := tr.near(7); got != 10*time.Millisecond {
		t.Errorf("the latency near 7 calls is %s", got)
	}
}
