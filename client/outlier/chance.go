package outlier

import "math"

// How much of a bad result is put down to chance.
const (
	// spared is the failure rate up to which the configured number of failures
	// in a row is proof enough. Five in a row then happen to an instance like
	// any other once in a hundred million calls; where the rest fails more
	// often, as many are demanded as are just as unlikely there.
	spared = 0.025
	// unlikely is how unlikely the failures within a window must be for an
	// instance like any other. A smaller Config.MinCalls demands less.
	unlikely        = 1e-8
	unlikelyPerCall = 0.8 // powers of ten for each of MinCalls

	// What is assumed of the rest before anything is known of it: spared, with
	// the weight of four outcomes.
	priorCalls    = 4
	priorFailures = priorCalls * spared
)

// rate estimates a failure rate from few or many outcomes.
func rate(failed, calls float64) float64 {
	return (failed + priorFailures) / (calls + priorCalls)
}

// demanded is the number of failures in a row that ejects where the rest fails
// at the given rate. It is at least consecutive, and endless where all fails.
func demanded(consecutive int, rate float64) float64 {
	if rate <= spared {
		return float64(consecutive)
	}
	if rate >= 1 {
		return math.Inf(1)
	}
	return math.Ceil(float64(consecutive) * math.Log(spared) / math.Log(rate))
}

// chance is how likely it is that at least failed of calls fail where each does
// so at the given rate: the upper tail of the binomial distribution.
func chance(failed, calls, rate float64) float64 {
	switch {
	case failed <= calls*rate:
		return 1 // near enough: nothing below a half is asked for
	case rate <= 0:
		return 0
	}
	n, _ := math.Lgamma(calls + 1)
	k, _ := math.Lgamma(failed + 1)
	rest, _ := math.Lgamma(calls - failed + 1)
	term := math.Exp(n - k - rest + failed*math.Log(rate) + (calls-failed)*math.Log1p(-rate))
	sum := term
	// Above the mean each term is smaller than the one before.
	for i := failed; i < calls && term > sum*1e-3; i++ {
		term *= (calls - i) / (i + 1) * rate / (1 - rate)
		sum += term
	}
	return min(sum, 1)
}

// tolerated is the chance below which a window of bad outcomes is proof.
func tolerated(minCalls int) float64 {
	return max(unlikely, math.Pow(10, -unlikelyPerCall*float64(minCalls)))
}
