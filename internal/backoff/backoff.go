// Package backoff computes how long to wait before the next attempt of
// something that failed. It is arithmetic and a random number: it never waits,
// and all its functions may be called concurrently.
//
// The jitter is "full": the whole interval from zero to the ceiling is used.
// When a thousand clients lose the same server in the same moment, a narrow
// jitter brings them back in the same moment too.
package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Ceiling returns the longest wait before the retry that follows attempt
// number attempt: base doubled attempt times, at most limit. The first attempt is number
// 0; a negative number counts as 0. A base of zero or less gives 0; a limit of
// zero or less gives 0.
func Ceiling(base, limit time.Duration, attempt int) time.Duration {
	if base <= 0 || limit <= 0 {
		return 0
	}
	ceiling := base
	for range attempt {
		if ceiling > limit/2 {
			return limit
		}
		ceiling *= 2
	}
	return min(ceiling, limit)
}

// FullJitter returns a random wait between zero and [Ceiling](base, limit,
// attempt), both included, all equally likely.
func FullJitter(base, limit time.Duration, attempt int) time.Duration {
	ceiling := Ceiling(base, limit, attempt)
	// A limit near the largest duration must not overflow.
	return rand.N(min(ceiling, math.MaxInt64-1) + 1)
}

// Around returns a random duration between d*(1-spread) and d*(1+spread), for
// periodic work that many processes must not do in step. The spread is a
// fraction, limited to the range from 0 to 1; a d of zero or less is returned as it is.
func Around(d time.Duration, spread float64) time.Duration {
	if d <= 0 {
		return d
	}
	spread = min(max(spread, 0), 1)
	return time.Duration(float64(d) * (1 + spread*(2*rand.Float64()-1)))
}
