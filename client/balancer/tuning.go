package balancer

import "time"

// The numbers of the cost rule. They were chosen with internal/sim, on fleets with
// slow, hanging, failing and unequal servers. Halving or doubling loadTau,
// latencyTau or ownTau changes the 99th percentile there by a few percent, which
// is why they are no options.
const (
	// choices is how many candidates [Adaptive] compares. Two lose 10 to 80 % of
	// the 99th percentile, most where servers differ. More than ten would still
	// help a little, and cost a pick its time.
	choices = 10

	// loadTau is how fast a reported in-flight count loses its meaning.
	loadTau = 2 * time.Second
	// latencyTau is the same for a latency, which a server keeps for longer.
	latencyTau = 6 * time.Second
	// latencySlow is added to latencyTau for each time the fleet's mean that an
	// endpoint is slower: the more a trial of a slow one costs, the rarer it is.
	// At latencyMax the next one comes after some 30 s instead of 20.
	latencySlow = 300 * time.Millisecond
	// latencyMax times the fleet's mean is as slow as a server is taken for. One
	// that was stopped and goes on would otherwise wait too long for a call that
	// finds out.
	latencyMax = 10
	// failureTau is the same for failures. A sick server gets its next trial
	// after some 20 s; from a client that makes few calls after more, because a
	// trial is a call that fails: it is at least failureCalls times the time
	// between two calls.
	failureTau = 5 * time.Second

	// alike times the lowest cost, costs do not differ: chance decides. Without
	// that the quickest of some idle servers by a hair would get all the calls
	// of a client that makes one at a time. Up to 1.25 no scenario
	// changes by as much as 5 %; from 1.5 on the tails grow.
	alike = 1.25

	// failureWeight multiplies the failure share in the cost. It must outweigh
	// whatever makes a server that fails fast look idle and quick.
	failureWeight = 50
	// failureCalls is how many of the newest calls an endpoint's own failure
	// share looks back on. It keeps a long good past from hiding a fresh fault.
	failureCalls = 10
	// failurePrior is how many calls of the fleet's mean share are added to
	// those that were seen. One failure in one call is then a share of 1/2.
	failurePrior = 1
	// failureDoubt is how many standard deviations a share of failures must be
	// above the fleet's before it counts, as seen by the client or as told.
	failureDoubt = 2
	// failureFloor times the failure share, at most 1, is the part of the
	// fleet's mean latency and load below which a failing server cannot look: it
	// is idle and quick because it fails.
	failureFloor = 10

	// ownTau is the span of the mean of latencies that this client measures.
	// A mean, not a peak: with heavy tails one slow call says nothing of the
	// next one.
	ownTau = time.Second
	// told is how far that mean moves towards a latency that the server reports.
	// It is small because all clients hear the same: with more, a hundred of them
	// run to the server that was quick a moment ago: believing it fully makes the
	// 99th percentile under changing slowdowns 40 % longer, without the bounce.
	// What a client measures is its own, and contains the way to the server.
	told = 0.1
	// wayTau is the span of the mean of what measured latencies have beyond told
	// ones: long beside ownTau, so that a change of what the server tells shows.
	wayTau = 10 * time.Second
	// grain is added to every latency that is compared: below a millisecond
	// servers differ by how the processes were scheduled.
	grain = float64(time.Millisecond)
	// censored is how far the mean moves towards the duration of an attempt
	// that was given up: its latency would have been at least that.
	censored = 1. / 4
	// firstLatency stands for the mean latency before anything is known.
	firstLatency = time.Millisecond

	// fleetTau is the span of the means over all endpoints; fleetMax bounds
	// what one sample counts for where samples are rare.
	fleetTau = time.Second
	fleetMax = 1. / 16
	// fleetSilence is how long without a sample makes a fleet mean start anew.
	fleetSilence = 30 * time.Second
	// fleetFailures is what one call counts for in the fleet's failure share.
	fleetFailures = 1. / 100

	// silent is after how long without a report a server counts as one that does
	// not report.
	silent = 10 * time.Second

	// boundFactor and boundExtra make the bounce limit of the mean in-flight
	// count: factor*(mean+1)+extra. It hands back 2 to 6 % of the calls, 9 %
	// where a thousand clients share few servers; a factor of 1 hands back 7 to
	// 22 %, for a 99th percentile that is 3 to 7 % shorter.
	boundFactor = 1.5
	boundExtra  = 2
)

const (
	// Stale is the age from which [Precise] takes what it knows for too old to
	// decide on.
	Stale = 100 * time.Millisecond
	// ProbeLatency is the mean latency below which [Precise] does not probe: the
	// round trip would cost more than the better choice brings.
	ProbeLatency = 5 * time.Millisecond
	// ProbeCount is how many endpoints [Precise] asks at most.
	ProbeCount = 3
)

// gRFC A58 (client-side weighted round robin).
const (
	weightBlackout = 10 * time.Second // how long a server must have reported
	weightExpiry   = 3 * time.Minute  // how long a report holds
	weightUpdate   = time.Second      // how often the weights are computed
	errorPenalty   = 1.0
)
