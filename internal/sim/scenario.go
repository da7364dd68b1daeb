package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Scenario is what a policy has to cope with. Zero fields mean that there is
// no such trouble.
type Scenario struct {
	// Name is what the tables call it.
	Name string
	// Clients and Servers are how many there are.
	Clients, Servers int
	// Cores is the size of the servers in turn: the first, the second, ...,
	// the first again.
	Cores []int
	// Load is the share of the capacity that the calls need, of the servers
	// that work and at the speed they have before anything sudden happens.
	Load float64
	// Even makes demand exponential instead of heavy-tailed.
	Even bool
	// Antagonists redraw the speed of every server again and again.
	Antagonists bool
	// Slow is how many servers are SlowBy times slower than the others.
	Slow   int
	SlowBy float64
	// Sudden makes them slow when the measurement begins; else they are from
	// the start.
	Sudden bool
	// Failing servers answer errors at once and Silent ones not at all, from
	// the beginning of the measurement on.
	Failing, Silent int
	// WarmUp and Measured are how long the run takes; 12 s and 20 s if zero.
	WarmUp, Measured time.Duration
}

// The constants of the model.
const (
	// Demand is the mean processor time of a call.
	Demand = 10 * time.Millisecond
	// Deadline is how long a client waits.
	Deadline = time.Second

	paretoShape = 1.5
	paretoMax   = 60 // times the mean
	delayFixed  = 250 * time.Microsecond
	delayRandom = 50 * time.Microsecond // mean of the exponential part
	mishapTakes = 100 * time.Microsecond
	slowPeriod  = 2 * time.Second // mean time between redraws
	askPatience = 2 * time.Millisecond
)

// antagonists are the slowdowns that a server's neighbours cause.
func antagonist(rng *rand.Rand) float64 {
	switch p := rng.Float64(); {
	case p < 0.60:
		return 1
	case p < 0.85:
		return 2
	case p < 0.95:
		return 4
	}
	return 8
}

// antagonistSpeed is the mean speed that is left by them.
const antagonistSpeed = 0.60 + 0.25/2 + 0.10/4 + 0.05/8

func (sc *Scenario) cores(server int) int { return sc.Cores[server%len(sc.Cores)] }

// slowdown of a server, and what else ails it, once the scenario's fault has
// begun. The faulty ones are the last, black holes first.
func (sc *Scenario) fault(server int) (slow float64, s state) {
	i := sc.Servers - 1 - server
	switch {
	case i < sc.Failing:
		return 1, failing
	case i < sc.Failing+sc.Silent:
		return 1, silent
	case i < sc.Failing+sc.Silent+sc.Slow:
		return sc.SlowBy, working
	}
	return 1, working
}

// Rate is the number of calls per second.
func (sc *Scenario) Rate() float64 {
	capacity := 0.
	for i := range sc.Servers {
		slow, s := sc.fault(i)
		if s != working {
			continue
		}
		speed := 1.
		if !sc.Sudden {
			speed /= slow
		}
		if sc.Antagonists {
			speed *= antagonistSpeed
		}
		capacity += float64(sc.cores(i)) * speed
	}
	return sc.Load * capacity / Demand.Seconds()
}

// demand draws the processor time of calls.
type demand struct {
	even    bool
	low     float64 // of the bounded Pareto
	highPow float64 // (low/high)^shape
}

func newDemand(even bool) demand {
	// The lower bound that gives the mean is between a tenth of it and itself.
	high := float64(paretoMax * Demand)
	lo, hi := float64(Demand)/10, float64(Demand)
	for range 60 {
		low := (lo + hi) / 2
		mean := math.Pow(low, paretoShape) / (1 - math.Pow(low/high, paretoShape)) * paretoShape / (paretoShape - 1) *
			(math.Pow(low, 1-paretoShape) - math.Pow(high, 1-paretoShape))
		if mean < float64(Demand) {
			lo = low
		} else {
			hi = low
		}
	}
	return demand{even: even, low: lo, highPow: math.Pow(lo/high, paretoShape)}
}

func (d *demand) draw(rng *rand.Rand) float64 {
	if d.even {
		return rng.ExpFloat64() * float64(Demand)
	}
	return d.low / math.Pow(1-rng.Float64()*(1-d.highPow), 1/paretoShape)
}

func delay(rng *rand.Rand) time.Duration {
	return delayFixed + time.Duration(rng.ExpFloat64()*float64(delayRandom))
}

// Scenarios are the cases of the tables, in their order.
func Scenarios() []Scenario {
	four := []int{4}
	base := func(name string, load float64) Scenario {
		return Scenario{Name: name, Clients: 50, Servers: 20, Cores: four, Load: load}
	}
	with := func(sc Scenario, change func(*Scenario)) Scenario {
		change(&sc)
		return sc
	}
	three := func(sc *Scenario) { sc.Clients, sc.Servers = 10, 3 }
	antagonists := func(sc *Scenario) { sc.Antagonists = true }
	many := func(n int) func(*Scenario) {
		return func(sc *Scenario) { sc.Clients, sc.Antagonists = n, true }
	}
	return []Scenario{
		with(base("even-80", 0.8), func(sc *Scenario) { sc.Even = true }),
		base("heavytail-80", 0.8),
		with(base("antag-70", 0.7), antagonists),
		with(base("antag-90", 0.9), antagonists),
		with(base("hetero2v8-85", 0.85), func(sc *Scenario) { sc.Cores = []int{2, 8} }),
		with(base("one-slow5x-70", 0.7), func(sc *Scenario) { sc.Slow, sc.SlowBy = 1, 5 }),
		with(base("onset-3slow10x-70", 0.7), func(sc *Scenario) { sc.Slow, sc.SlowBy, sc.Sudden = 3, 10, true }),
		with(base("blackhole-70", 0.7), func(sc *Scenario) { sc.Failing = 1 }),
		with(base("hang-70", 0.7), func(sc *Scenario) { sc.Silent = 1 }),
		with(base("badday-60", 0.6), func(sc *Scenario) { sc.Failing, sc.Silent, sc.Antagonists = 1, 1, true }),
		with(base("N10-antag-80", 0.8), many(10)),
		with(base("N100-antag-80", 0.8), many(100)),
		with(base("N1000-antag-80", 0.8), many(1000)),
		with(with(base("M3-antag-70", 0.7), three), antagonists),
		with(with(base("M3-slow5x-60", 0.6), three), func(sc *Scenario) { sc.Slow, sc.SlowBy = 1, 5 }),
		with(with(base("M3-blackhole-60", 0.6), three), func(sc *Scenario) { sc.Failing = 1 }),
		with(with(base("M3-hang-60", 0.6), three), func(sc *Scenario) { sc.Silent = 1 }),
	}
}
