package balancer

import (
	"math"
	"time"
)

// terms are the parts of an endpoint's cost at a moment.
type terms struct {
	load    float64 // calls in flight on the server, as far as known
	latency float64 // nanoseconds
	oldest  float64 // age of the oldest pending attempt, nanoseconds
	share   float64 // of failures, beyond what all the others have
	zone    float64 // factor of the cost, 1 for the client's own zone
	cost    float64
}

// view is what a cost depends on beside the endpoint: the moment, and the means
// of the fleet. A pick reads them once.
type view struct {
	at       int64
	load     float64
	others   float64
	latency  float64 // never 0
	failures float64
	told     float64
	away     float64       // factor of the cost of an endpoint that is away
	fading   time.Duration // of failures
}

func (f *fleet) view(at int64) view {
	v := view{
		at:       at,
		load:     f.load.value.load(),
		others:   f.others.value.load(),
		latency:  f.latency.value.load(),
		failures: f.failures.load(),
		told:     f.told.value.load(),
		away:     f.away.load(),
		fading:   f.failureTau(),
	}
	if v.latency <= 0 {
		v.latency = float64(firstLatency)
	}
	return v
}

// cost estimates what it costs to send a call to the endpoint:
//
//	(latency + 1 ms) * (in-flight on the server + 1) * (1 + 50 * failure share) / weight * zone
//
// What is not known of the endpoint is as the fleet's mean, and what is known
// fades into it: an unknown endpoint neither attracts nor repels.
func (e *Endpoint) cost(v *view) terms {
	var t terms
	// Of the load on the server, this client's part is known exactly; only the
	// part of the others is an estimate. Without reports it is 0 everywhere.
	others := v.others
	if last := e.reportAt.Load(); last != 0 {
		others += (e.others.load() - v.others) * decay(v.at-last, loadTau)
	}
	t.load = others + float64(e.inFlight.Load())

	// A server that got slow answers no more; its oldest pending call says that
	// it is at least that slow.
	t.latency = e.expected(v.at, v.latency)
	if oldest := e.oldest.Load(); oldest != 0 {
		t.oldest = float64(v.at - oldest)
		t.latency = max(t.latency, t.oldest)
	}

	if t.share = e.failureShare(v); t.share > 0 {
		// Whoever fails at once looks idle and quick, which attracts (Prequal's
		// sinkhole).
		floor := min(failureFloor*t.share, 1)
		t.latency = max(t.latency, floor*v.latency)
		t.load = max(t.load, floor*v.load)
	}
	t.zone = e.awayFactor(v)
	t.cost = (t.latency + grain) * (t.load + 1) * (1 + failureWeight*t.share) * t.zone * DefaultWeight / float64(e.weight.Load())
	return t
}

// expected is the latency that a call will have, as far as known, without regard
// to what is pending. What is known fades into a mean.
func (e *Endpoint) expected(at int64, mean float64) float64 {
	last := e.latencyAt.Load()
	if last == 0 {
		return mean
	}
	beyond := min(e.latency.load(), latencyMax*mean+grain) - mean
	fading := latencyTau + time.Duration(max(beyond, 0)/mean*float64(latencySlow))
	return mean + beyond*decay(at-last, fading)
}

// failureShare is the share of calls that fail here beyond what is the case
// everywhere: an error that all servers give alike says nothing about one of them.
func (e *Endpoint) failureShare(v *view) float64 {
	var share float64
	if fails := e.ownFails.load(); fails > 0 {
		fade := decay(v.at-e.ownAt.Load(), v.fading)
		calls := e.ownCalls.load()*fade + failurePrior
		own := (fails*fade + v.failures*failurePrior) / calls
		// Few calls show a share that chance made.
		share = own - v.failures - failureDoubt*math.Sqrt(v.failures*(1-v.failures)/calls)
	}
	if told := e.toldShare.load() - v.told; told > 0 {
		share = max(share, told*decay(v.at-e.toldAt.Load(), v.fading))
	}
	return max(share, 0)
}

// decay is what is left of a difference to the mean after some time, nearly
// exp(-age/tau). The first terms of the series do: a pick computes dozens of them.
func decay(age int64, tau time.Duration) float64 {
	x := float64(max(age, 0)) * (1 / float64(tau))
	return 1 / (1 + x*(1+x*(1./2+x*(1./6+x*(1./24)))))
}

// Stats is a reading of what is known of an endpoint, and of what a policy makes
// of it.
type Stats struct {
	// InFlight is the number of this client's attempts that have not ended.
	InFlight int64
	// Calls is the number of attempts that ended with Succeeded, Failed or Refused.
	Calls uint64
	// Failures is how many of these did not succeed.
	Failures uint64
	// Latency is the last known latency, as the server reports it, else as it was
	// measured; 0 while it is unknown.
	Latency time.Duration

	// Reporting is whether the server ever told its load. Reported is the
	// in-flight count that it told, and Age how long ago.
	Reporting bool
	Reported  int64
	Age       time.Duration

	// Load, Expected and FailureShare are the terms of the cost: calls in flight
	// on the server, latency of the next call, share of failures beyond the
	// fleet's. Oldest is the age of the oldest pending attempt, a floor of the
	// latency. Cost is what [Adaptive] compares, in seconds.
	Load         float64
	Expected     time.Duration
	FailureShare float64
	Oldest       time.Duration
	Cost         float64
	// Zone is the factor of the cost for the endpoint's zone, 1 for the client's
	// own; see [Set.SetAwayFactor].
	Zone float64

	// Warm is the part of its calls that the endpoint takes while it warms up; 1
	// means all. See [SlowStart].
	Warm float64
	// Open is whether the endpoint's [Gate] lets it be picked.
	Open bool
}

// Stats reads the record. The values are read one after the other, so that under
// load they need not belong to the same instant.
func (e *Endpoint) Stats(now time.Time) Stats {
	at := e.fleet.at(now)
	v := e.fleet.view(at)
	t := e.cost(&v)
	stats := Stats{
		InFlight:     e.inFlight.Load(),
		Calls:        e.calls.Load(),
		Failures:     e.failures.Load(),
		Latency:      time.Duration(e.latency.load()),
		Load:         t.load,
		Expected:     time.Duration(t.latency),
		FailureShare: t.share,
		Oldest:       time.Duration(t.oldest),
		Cost:         t.cost / float64(time.Second),
		Zone:         t.zone,
		Warm:         e.share(now),
		Open:         e.open(now),
	}
	if last := e.reportAt.Load(); last != 0 {
		stats.Reporting = true
		stats.Reported = e.reported.Load()
		stats.Age = time.Duration(max(at-last, 0))
	}
	return stats
}
