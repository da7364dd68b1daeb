package balancer

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// fleet is what the endpoints of a set have in common: the means that the
// knowledge of a single one fades into.
type fleet struct {
	epoch time.Time // of the first update, what times are counted from

	inFlight atomic.Int64 // this client's attempts on all endpoints
	heard    atomic.Int64 // when a server last reported its load
	ended    atomic.Int64 // when an attempt last ended
	away     number       // factor of the cost of endpoints that are away, 0 = 1

	// mu guards what is written; readers take the values as they are. A sample
	// that finds it taken is dropped: one of many is not worth waiting for.
	mu       sync.Mutex
	load     mean // reported in-flight
	others   mean // the part of it that is not this client's
	latency  mean // in nanoseconds, as measured, and as told with the way added
	way      mean // what measured latencies have beyond told ones
	told     mean // failure shares that servers report
	failures number
	pause    mean // between calls, in nanoseconds
	called   int64
}

// at is a moment as the fleet counts it: never 0, which means never.
func (f *fleet) at(now time.Time) int64 { return int64(now.Sub(f.epoch)) + 1 }

// outcome takes in how an attempt ended; latency is negative if there is none to
// be learned from.
func (f *fleet) outcome(at int64, failed bool, latency float64) {
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	if f.called != 0 {
		f.pause.add(at, float64(max(at-f.called, 0)))
	}
	f.called = at
	share := f.failures.load()
	if failed {
		f.failures.store(share + (1-share)*fleetFailures)
	} else {
		f.failures.store(share - share*fleetFailures)
	}
	if latency >= 0 {
		f.latency.add(at, latency)
	}
}

// failureTau is how fast failures lose their meaning: not before the client has
// made some more calls.
func (f *fleet) failureTau() time.Duration {
	return max(failureTau, time.Duration(failureCalls*f.pause.value.load()))
}

// report takes in what a server said; what is negative was not said, and a way
// that is not known is no number.
func (f *fleet) report(at int64, load, others, latency, failures, way float64) {
	if load >= 0 {
		f.heard.Store(at)
	}
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	if load >= 0 {
		f.load.add(at, load)
		f.others.add(at, others)
	}
	if latency >= 0 {
		f.latency.add(at, latency)
	}
	if failures >= 0 {
		f.told.add(at, failures)
	}
	if !math.IsNaN(way) {
		f.way.add(at, way)
	}
}

// reports is whether servers of the fleet say how loaded they are.
func (f *fleet) reports() bool {
	heard := f.heard.Load()
	return heard != 0 && f.ended.Load()-heard < int64(silent)
}

// mean is a moving mean: over fleetTau, or over more where samples are rare.
type mean struct {
	value number // read by anybody

	// Guarded by the fleet's mu.
	last int64
	n    int
}

func (m *mean) add(at int64, x float64) {
	gap := max(at-m.last, 0)
	if m.n == 0 || gap > int64(fleetSilence) {
		m.n = 0
		m.value.store(x)
	} else {
		alpha := min(float64(gap)/float64(fleetTau), fleetMax)
		alpha = max(alpha, 1/float64(m.n+1)) // the first ones count alike
		old := m.value.load()
		m.value.store(old + alpha*(x-old))
	}
	m.last = at
	m.n = min(m.n+1, 1<<20)
}

// number is a float64 that is read and written concurrently.
type number struct{ bits atomic.Uint64 }

func (n *number) load() float64   { return math.Float64frombits(n.bits.Load()) }
func (n *number) store(x float64) { n.bits.Store(math.Float64bits(x)) }

// Bound is the in-flight count from which a server should hand a first attempt
// back: one and a half times what this client takes for the mean of the fleet,
// and a little more. It is false while no server of the set reports its load, or
// none has for some time: without reports the mean is unknown, and a limit would
// be a guess. If the whole fleet is busy the mean follows, so that the calls
// handed back do not multiply.
func (s *Set) Bound() (limit int64, ok bool) {
	if !s.fleet.reports() {
		return 0, false
	}
	return int64(math.Round(boundFactor*(s.fleet.load.value.load()+1) + boundExtra)), true
}

// FleetStats is what a client takes for the mean of a service's instances.
type FleetStats struct {
	// Endpoints is the number of addresses, Reporting how many of them have
	// reported their load.
	Endpoints, Reporting int
	// InFlight is the number of this client's attempts that have not ended.
	InFlight int64
	// Load is the mean of the in-flight counts that servers report, and Others
	// the mean of the part of them that other clients are to blame for.
	Load, Others float64
	// Latency is the mean latency, as servers report it, or as it was measured
	// where they do not; 0 while nothing is known.
	Latency time.Duration
	// Failures is the share of failed attempts, from 0 to 1, and Told the mean
	// of the shares that servers report.
	Failures, Told float64
	// Bound is the limit that [Set.Bound] returns; 0 means none.
	Bound int64
}

// Fleet reads the means. They are for people to read: they are not all of the
// same instant.
func (s *Set) Fleet() FleetStats {
	stats := FleetStats{
		InFlight: s.fleet.inFlight.Load(),
		Load:     s.fleet.load.value.load(),
		Others:   s.fleet.others.value.load(),
		Latency:  time.Duration(s.fleet.latency.value.load()),
		Failures: s.fleet.failures.load(),
		Told:     s.fleet.told.value.load(),
	}
	stats.Bound, _ = s.Bound()
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Endpoints = len(s.endpoints)
	for _, e := range s.endpoints {
		if e.reportAt.Load() != 0 {
			stats.Reporting++
		}
	}
	return stats
}
