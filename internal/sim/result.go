package sim

import (
	"slices"
	"time"
)

// Result is what one run measured.
type Result struct {
	// Calls is how many began in the measured time.
	Calls int
	// Failed is how many of them got an error or no answer in time.
	Failed int
	// Bounces and Probes are how many there were for these calls.
	Bounces, Probes int
	// Sent is the number of attempts that went to each server.
	Sent []int

	latencies []time.Duration
}

func (r *Result) add(d time.Duration, o Outcome) {
	r.Calls++
	if o != Succeeded {
		r.Failed++
	}
	if o != Failed {
		r.latencies = append(r.latencies, d)
	}
}

func (r *Result) finish() Result {
	slices.Sort(r.latencies)
	return *r
}

// Quantile is the latency that the share q of the calls did not exceed. A call
// that timed out took the whole deadline; one that got an error is left out,
// because an error is often fast.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// ErrorShare is the share of the calls that failed.
func (r *Result) ErrorShare() float64 {
	if r.Calls == 0 {
		return 0
	}
	return float64(r.Failed) / float64(r.Calls)
}
