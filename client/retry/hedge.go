package retry

import (
	"fmt"
	"sync"
	"time"
)

// The numbers of hedging.
const (
	// HedgePercentile is the part of a method's calls that are over before a
	// second attempt is made, where its delay is learned: one call in twenty
	// is hedged, half of what the budget allows for.
	HedgePercentile = 0.95
	// HedgeSamples is the number of latencies below which nothing is learned.
	HedgeSamples = 50
	// HedgeWindow is how long a latency is remembered at least; the oldest are
	// twice as old when they are forgotten.
	HedgeWindow = time.Minute
	// MinHedgeDelay is the shortest delay that is learned. Below it the noise
	// of timers and collectors would be hedged.
	MinHedgeDelay = time.Millisecond
)

// HedgePolicy is whether a second attempt of a call is made while the first
// still runs. The zero HedgePolicy makes none.
type HedgePolicy struct {
	// Enabled turns hedging on, for calls that may be processed twice.
	Enabled bool
	// Delay is how long the first attempt runs alone; 0 means as long as
	// [HedgePercentile] of the method's own calls take, and no hedge until
	// [HedgeSamples] of them are known.
	Delay time.Duration
}

// Validate checks that the values are in range. An error names the field, the
// value and the constraint.
func (p HedgePolicy) Validate() error {
	if p.Delay < 0 {
		return fmt.Errorf("set Hedge.Delay to %s: must not be negative", p.Delay)
	}
	return nil
}

// Pending is what is known of a call whose only attempt has not ended.
type Pending struct {
	// Attempts is the number of attempts made; only a first one is hedged.
	Attempts int
	// Idempotent means that the call may be processed twice.
	Idempotent bool
	// Stream means that messages are sent which nobody keeps.
	Stream bool
	// Remaining is the time until the call's deadline. A call without one has
	// the largest duration.
	Remaining time.Duration
}

// Hedge learns how long the calls of one method take. The zero Hedge has
// learned nothing and is ready to use. It remembers a fixed number of counters,
// and may be used concurrently; a mutex is held for nanoseconds.
type Hedge struct {
	mu        sync.Mutex
	start     time.Time // of the first latency, what times are counted from
	epoch     int64     // number of the current window
	windows   [2]histogram
	learned   time.Duration // cached
	learnedAt time.Time
	known     bool
}

// Observe takes in how long an attempt took. Three rules keep what is learned
// true: only first attempts are observed, because a hedge is compared with the
// slow ones only; only successful ones, because an error is often fast; and a
// first attempt that is cancelled because its hedge was faster is observed with
// the time it had run, which is past the percentile and all that counts.
func (h *Hedge) Observe(now time.Time, latency time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rotateLocked(now)
	h.windows[h.epoch%2].add(latency)
}

// Delay is the latency that [HedgePercentile] of the calls stay below, at least
// [MinHedgeDelay]. It reports false while fewer than [HedgeSamples] are known.
func (h *Hedge) Delay(now time.Time) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rotateLocked(now)
	// Per call the percentile of a tenth of a second ago is good enough.
	if age := now.Sub(h.learnedAt); !h.known || age < 0 || age >= 100*time.Millisecond {
		learned, ok := h.quantileLocked(HedgePercentile)
		h.learned, h.known, h.learnedAt = max(learned, MinHedgeDelay), ok, now
	}
	return h.learned, h.known
}

// Median is the latency that half of the calls stay below, for
// [Attempt.Expected]. It reports false while fewer than [HedgeSamples] are
// known.
func (h *Hedge) Median(now time.Time) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rotateLocked(now)
	return h.quantileLocked(0.5)
}

// Plan tells how long to wait before the hedge of a first attempt that is about
// to be made, and whether one is worth planning at all. It costs nothing; what
// it plans must be allowed when the time has come.
func (h *Hedge) Plan(now time.Time, policy HedgePolicy, call Pending) (time.Duration, bool) {
	if !policy.Enabled || call.hedgeable() != "" {
		return 0, false
	}
	delay := policy.Delay
	if delay <= 0 {
		var ok bool
		if delay, ok = h.Delay(now); !ok {
			return 0, false
		}
	}
	return delay, delay < call.Remaining
}

// Allow decides about a hedge whose delay is over while the first attempt still
// runs. It takes the cost of a retry from the budget only if everything else
// speaks for the hedge, so each decision to hedge must be carried out, on
// another instance.
func (h *Hedge) Allow(now time.Time, policy Policy, call Pending, budget *Budget) Decision {
	policy = policy.WithDefaults()
	if reason := call.hedgeable(); reason != "" {
		return Decision{Reason: reason}
	}
	if policy.MaxAttempts < 2 {
		return Decision{Reason: NoAttempts}
	}
	// Half of the calls take longer than the median: a hedge that has less
	// left is a burden more often than a help.
	if expected, _ := h.Median(now); call.Remaining <= expected {
		return Decision{Reason: NoTime}
	}
	if !budget.Withdraw(now, Cost) {
		return Decision{Reason: NoBudget}
	}
	return Decision{Retry: true, Reason: ReasonHedge}
}

// hedgeable is why a call is not hedged, "" if it may be.
func (c Pending) hedgeable() Reason {
	switch {
	case c.Stream:
		return NotReplayable
	case !c.Idempotent:
		return NotIdempotent
	case c.Attempts > 1:
		return NoAttempts
	}
	return ""
}

// rotateLocked empties the windows that are over. A time before the newest one
// seen changes nothing.
func (h *Hedge) rotateLocked(now time.Time) {
	if h.start.IsZero() {
		h.start = now
	}
	epoch := int64(now.Sub(h.start) / HedgeWindow)
	for range min(epoch-h.epoch, 2) {
		h.epoch++
		h.windows[h.epoch%2] = histogram{}
	}
	h.epoch = max(h.epoch, epoch)
}

func (h *Hedge) quantileLocked(q float64) (time.Duration, bool) {
	if h.windows[0].count+h.windows[1].count < HedgeSamples {
		return 0, false
	}
	return quantile(&h.windows[0], &h.windows[1], q), true
}
