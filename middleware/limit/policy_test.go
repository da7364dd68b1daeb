package limit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/middleware"
)

// family is a kind of server, made anew for each run.
type family struct {
	name     string
	cpus     int
	capacity float64 // calls a second
	server   func() server
	deadline time.Duration
}

var families = []family{
	{"processor", 2, 200, func() server { return &processor{cores: 2, work: fixed(10 * time.Millisecond)} }, time.Second},
	{"processor, short calls", 2, 2000, func() server { return &processor{cores: 2, work: random(time.Millisecond)} }, time.Second},
	{"processor, calls of all lengths", 2, 200, func() server { return &processor{cores: 2, work: random(10 * time.Millisecond)} }, time.Second},
	{"processor, impatient callers", 2, 200, func() server { return &processor{cores: 2, work: fixed(10 * time.Millisecond)} }, 200 * time.Millisecond},
	{"pool of 10", 2, 1000, func() server { return &pool{free: make([]time.Duration, 10), work: fixed(10 * time.Millisecond)} }, time.Second},
	{"pool of 10, calls of all lengths", 2, 1000, func() server { return &pool{free: make([]time.Duration, 10), work: random(10 * time.Millisecond)} }, time.Second},
	{"pool of 2", 2, 200, func() server { return &pool{free: make([]time.Duration, 2), work: fixed(10 * time.Millisecond)} }, 500 * time.Millisecond},
	{"pool of 100", 2, 1000, func() server { return &pool{free: make([]time.Duration, 100), work: random(100 * time.Millisecond)} }, 2 * time.Second},
	{"pool of 10 on 8 processors", 8, 1000, func() server { return &pool{free: make([]time.Duration, 10), work: fixed(10 * time.Millisecond)} }, time.Second},
	{"processor after a wait", 2, 1000, func() server {
		return &processor{cores: 2, work: fixed(2 * time.Millisecond), before: func() time.Duration { return 50 * time.Millisecond }}
	}, time.Second},
}

func eachSeed(t *testing.T, run func(t *testing.T, seed uint64)) {
	t.Helper()
	for seed := range uint64(seeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { run(t, seed+1) })
	}
}

// TestOverload asks for 75 % of what can be served, for half a minute for 150 %, and
// for 75 % again (F19).
func TestOverload(t *testing.T) {
	const before, during, after = 30 * time.Second, 60 * time.Second, 90 * time.Second
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				w := newWorld(seed, f.cpus, f.server())
				w.deadline = f.deadline
				highest := int64(0)
				w.before = func() {
					if w.now > before {
						highest = max(highest, w.policy.bounds.Load().limit)
					}
				}
				w.run(after, &source{name: "a", rate: func(t time.Duration) float64 {
					if t > before && t < during {
						return 1.5 * f.capacity
					}
					return 0.75 * f.capacity
				}})
				usual, over := w.tally(2*time.Second, before, nil), w.tally(before, during, nil)
				good := over.perSecond(during-before) / f.capacity
				end := w.tally(during+3*time.Second, after, nil)
				t.Logf("before: %v; during: goodput %.1f %% of the capacity; 3 s after: %v; limit %d at most, %d at last, usual %v",
					usual, 100*good, end, highest, w.policy.bounds.Load().limit, time.Duration(w.policy.learned.usual()))
				if usual.shedShare() > 0.001 {
					t.Errorf("at 75 %%: %v", usual)
				}
				if good < 0.9 {
					t.Errorf("goodput is %.1f %% of the capacity", 100*good)
				}
				if end.goodShare() < 0.99 {
					t.Errorf("3 s after the overload: %v", end)
				}
				if n := w.policy.held.load().calls(); n != 0 {
					t.Errorf("%d in flight at the end", n)
				}
			})
		})
	}
}

// TestLongOverload: the limit does not creep up in an overload that lasts.
func TestLongOverload(t *testing.T) {
	const begin, length = 20 * time.Second, 3 * time.Minute
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(1, f.cpus, f.server())
			w.deadline = f.deadline
			w.run(length, &source{name: "a", rate: func(t time.Duration) float64 {
				if t < begin {
					return 0.75 * f.capacity
				}
				return 1.2 * f.capacity
			}})
			for from := begin + 5*time.Second; from < length; from += 30 * time.Second {
				to := min(from+30*time.Second, length)
				if good := w.tally(from, to, nil).perSecond(to-from) / f.capacity; good < 0.9 {
					t.Errorf("from %v to %v: goodput is %.1f %% of the capacity", from, to, 100*good)
				}
			}
			t.Logf("limit %d, usual %v, latency %v", w.policy.bounds.Load().limit, time.Duration(w.policy.learned.usual()), time.Duration(w.policy.recent.Load()))
		})
	}
}

// TestOverloadedFromStart: a server that comes into an overload has never seen how
// long its calls usually take.
func TestOverloadedFromStart(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				w := newWorld(seed, f.cpus, f.server())
				w.deadline = f.deadline
				const length = 30 * time.Second
				w.run(length, &source{name: "a", rate: func(time.Duration) float64 { return 2 * f.capacity }})
				if good := w.tally(3*time.Second, length, nil).perSecond(length-3*time.Second) / f.capacity; good < 0.9 {
					t.Errorf("goodput is %.1f %% of the capacity, limit %d", 100*good, w.policy.bounds.Load().limit)
				}
			})
		})
	}
}

// TestWaiting: calls that wait for somebody else may be as many as there are.
func TestWaiting(t *testing.T) {
	for _, tt := range []struct {
		latency time.Duration
		rate    float64
		random  bool
		settle  time.Duration
	}{
		{5 * time.Millisecond, 2000, false, 0},
		{50 * time.Millisecond, 1500, false, time.Second},
		{50 * time.Millisecond, 1500, true, time.Second},
		{time.Second, 500, false, 20 * time.Second},
		{time.Second, 500, true, 20 * time.Second},
	} {
		t.Run(fmt.Sprintf("%v at %v a second", tt.latency, tt.rate), func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				work := fixed(tt.latency)
				if tt.random {
					work = random(tt.latency)
				}
				w := newWorld(seed, 2, &wait{work})
				w.deadline = time.Hour
				const length = 60 * time.Second
				w.run(length, &source{name: "a", rate: func(time.Duration) float64 { return tt.rate }})
				begin, rest := w.tally(0, tt.settle, nil), w.tally(tt.settle, length, nil)
				t.Logf("at first: %v; then: %v; limit %d", begin, rest, w.policy.bounds.Load().limit)
				if rest.shedShare() > 0.001 {
					t.Errorf("%v", rest)
				}
			})
		})
	}
}

// TestGrowingLoad: the limit grows with the load, where the latency is high but does
// not change.
func TestGrowingLoad(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		w := newWorld(seed, 2, &wait{random(300 * time.Millisecond)})
		w.deadline = time.Hour
		const length = 2 * time.Minute
		w.run(length, &source{name: "a", rate: func(t time.Duration) float64 { return 10 + 2000*t.Seconds()/length.Seconds() }})
		if all := w.tally(0, length, nil); all.shedShare() > 0.005 {
			t.Errorf("%v", all)
		}
	})
}

// TestDependencyTurnsSlow: a dependency takes 50 ms instead of 5, at the same rate of
// calls.
func TestDependencyTurnsSlow(t *testing.T) {
	for name, noise := range map[string]bool{"even": false, "random": true} {
		for _, rate := range []float64{100, 500, 1000, 5000} {
			t.Run(fmt.Sprintf("%s, %v a second", name, rate), func(t *testing.T) {
				eachSeed(t, func(t *testing.T, seed uint64) {
					const step, end = 30 * time.Second, 60 * time.Second
					var w *world
					w = newWorld(seed, 2, &wait{func(r *rand.Rand) time.Duration {
						mean := 5 * time.Millisecond
						if w.now > step {
							mean = 50 * time.Millisecond
						}
						if noise {
							return time.Duration(r.ExpFloat64() * float64(mean))
						}
						return mean
					}})
					w.run(end, &source{name: "a", rate: func(time.Duration) float64 { return rate }})
					first, rest := w.tally(step, step+5*time.Second, nil), w.tally(step+5*time.Second, end, nil)
					t.Logf("in the first 5 s: %v; then: %v; limit %d", first, rest, w.policy.bounds.Load().limit)
					if rest.shedShare() >= 0.01 {
						t.Errorf("after 5 s: %v", rest)
					}
				})
			})
		}
	}
}

// TestDependencyTurnsSlowInOverload: the limit of an overloaded server is found anew
// when its calls begin to wait for somebody else.
func TestDependencyTurnsSlowInOverload(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		const step, end = 30 * time.Second, 3 * time.Minute
		p := &processor{cores: 2, work: fixed(2 * time.Millisecond)}
		w := newWorld(seed, 2, p)
		p.before = func() time.Duration {
			if w.now > step {
				return 100 * time.Millisecond
			}
			return 0
		}
		w.run(end, &source{name: "a", rate: func(t time.Duration) float64 {
			if t < 10*time.Second {
				return 700
			}
			return 1500
		}})
		last := w.tally(end-time.Minute, end, nil)
		if good := last.perSecond(time.Minute); good < 900 {
			t.Errorf("%.0f calls a second are served of 1000, limit %d, usual %v", good, w.policy.bounds.Load().limit, time.Duration(w.policy.learned.usual()))
		}
	})
}

// TestUnusedLimitStays: a limit that is not met neither shrinks nor is forgotten.
func TestUnusedLimitStays(t *testing.T) {
	w := newWorld(1, 2, &wait{fixed(200 * time.Millisecond)})
	w.run(5*time.Minute, &source{name: "a", rate: func(t time.Duration) float64 {
		if t < 20*time.Second || t > 4*time.Minute {
			return 1000
		}
		return 5
	}})
	if burst := w.tally(4*time.Minute, 5*time.Minute, nil); burst.shed > 0 {
		t.Errorf("after minutes of little load: %v, limit %d", burst, w.policy.bounds.Load().limit)
	}
}

// TestHang: a server that never answers takes on no more than the limit.
func TestHang(t *testing.T) {
	w := newWorld(1, 2, &wait{fixed(24 * time.Hour)})
	most := int64(0)
	w.before = func() { most = max(most, w.policy.held.load().calls()) }
	w.run(time.Minute, &source{name: "a", rate: func(time.Duration) float64 { return 1000 }})
	if most > 32 {
		t.Errorf("%d in flight", most)
	}
}

// TestCriticality: what matters most gets through while what matters least is turned
// away.
func TestCriticality(t *testing.T) {
	const begin, end = 20 * time.Second, 80 * time.Second
	parts := map[middleware.Criticality]float64{
		middleware.CriticalPlus: 0.1, middleware.Critical: 0.5, middleware.SheddablePlus: 0.2, middleware.Sheddable: 0.2,
	}
	for _, f := range families {
		if f.deadline < time.Second/4 {
			continue // there is no room for anybody there
		}
		t.Run(f.name, func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				w := newWorld(seed, f.cpus, f.server())
				w.deadline = f.deadline
				var sources []*source
				for c := middleware.Critical; c <= middleware.Sheddable; c++ {
					part := parts[c]
					sources = append(sources, &source{name: "a", class: c, rate: func(t time.Duration) float64 {
						if t < begin {
							return 0.75 * part * f.capacity
						}
						return 1.5 * part * f.capacity
					}})
				}
				w.run(end, sources...)
				got := map[middleware.Criticality]tally{}
				for c := range parts {
					got[c] = w.tally(begin+3*time.Second, end, func(x *call) bool { return x.source.class == c })
				}
				plus, critical, splus, shed := got[middleware.CriticalPlus].goodShare(), got[middleware.Critical].goodShare(),
					got[middleware.SheddablePlus].goodShare(), got[middleware.Sheddable].goodShare()
				t.Logf("critical_plus %.2f %%, critical %.2f %%, sheddable_plus %.2f %%, sheddable %.2f %%; limit %d", 100*plus, 100*critical, 100*splus, 100*shed, w.policy.bounds.Load().limit)
				if plus < 0.99 {
					t.Errorf("critical_plus: %.2f %%", 100*plus)
				}
				if plus < critical || critical < splus || splus < shed {
					t.Error("not in this order")
				}
			})
		})
	}
}

// TestGreedyCaller: one caller of twenty makes ten times the calls of the others
// (F32).
func TestGreedyCaller(t *testing.T) {
	const callers, begin, end = 20, 20 * time.Second, 80 * time.Second
	for _, load := range []float64{0.75, 0.9} {
		for _, f := range families {
			if f.deadline < time.Second/4 {
				continue
			}
			t.Run(fmt.Sprintf("%s at %v", f.name, load), func(t *testing.T) {
				eachSeed(t, func(t *testing.T, seed uint64) {
					w := newWorld(seed, f.cpus, f.server())
					w.deadline = f.deadline
					var sources []*source
					for i := range callers {
						sources = append(sources, &source{name: strconv.Itoa(i), rate: func(t time.Duration) float64 {
							rate := load * f.capacity / callers
							if i == 0 && t > begin {
								rate *= 10
							}
							return rate
						}})
					}
					w.run(end, sources...)
					greedy := w.tally(begin, end, func(c *call) bool { return c.source.name == "0" })
					others := w.tally(begin, end, func(c *call) bool { return c.source.name != "0" })
					used := float64(greedy.good+others.good) / (end - begin).Seconds() / f.capacity
					t.Logf("the greedy one: %v; the others: %v; %.1f %% of the capacity is used", greedy, others, 100*used)
					if others.goodShare() < 0.99 {
						t.Errorf("the others: %v", others)
					}
					if used < 0.85 {
						t.Errorf("%.1f %% of the capacity is used", 100*used)
					}
				})
			})
		}
	}
}

// TestEqualCallers: nobody is singled out where all ask for too much.
func TestEqualCallers(t *testing.T) {
	const callers = 20
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(1, f.cpus, f.server())
			w.deadline = f.deadline
			var sources []*source
			for i := range callers {
				sources = append(sources, &source{name: strconv.Itoa(i), rate: func(time.Duration) float64 { return 1.5 * f.capacity / callers }})
			}
			const begin, end = 5 * time.Second, 65 * time.Second
			w.run(end, sources...)
			least, most := 1.0, 0.0
			for i := range callers {
				share := w.tally(begin, end, func(c *call) bool { return c.source == sources[i] }).goodShare()
				least, most = min(least, share), max(most, share)
			}
			good := w.tally(begin, end, nil).perSecond(end-begin) / f.capacity
			t.Logf("goodput %.1f %%, callers from %.1f %% to %.1f %%", 100*good, 100*least, 100*most)
			if good < 0.9 || most > 1.4*least {
				t.Errorf("goodput %.1f %%, callers from %.1f %% to %.1f %%", 100*good, 100*least, 100*most)
			}
		})
	}
}

// TestMaxAtOnce: calls and streams that come at the same moment do not get in
// together where there is room for one.
func TestMaxAtOnce(t *testing.T) {
	const most = 4
	p := newPolicy(100, 100)
	p.configure(false, most)
	who := p.callers.find("a", false)
	for range (most - 1) * lastingWeight { // so that calls and streams are both short of room
		p.held.add(oneStream)
	}
	var wg sync.WaitGroup
	var in, out atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for range 20_000 {
				stream := i%2 == 0
				if p.admit(0, middleware.Critical, who, stream) != "" {
					out.Add(1)
					continue
				}
				in.Add(1)
				if h := p.held.load(); h.used() > most {
					t.Errorf("%d calls and %d streams are in, which count as %d, allowed are %d", h.calls(), h.lasting(), h.used(), most)
				}
				if runtime.Gosched(); stream {
					p.endLasting()
				} else {
					p.end(0, 0, served)
				}
			}
		})
	}
	wg.Wait()
	if h := p.held.load(); h.calls() != 0 || h.lasting() != (most-1)*lastingWeight {
		t.Errorf("at the end %d calls and %d streams are in", h.calls(), h.lasting())
	}
	if in.Load() == 0 || out.Load() == 0 {
		t.Errorf("%d were let in, %d turned away: want both", in.Load(), out.Load())
	}
}
