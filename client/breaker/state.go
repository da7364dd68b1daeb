package breaker

import (
	"fmt"
	"time"
)

// Phase says in a word what a breaker does, for metrics and logs.
type Phase uint8

const (
	// Closed lets every attempt pass.
	Closed Phase = iota
	// Throttling holds back a part of the attempts: the adaptive policy.
	Throttling
	// Open holds back every attempt: the classic policy.
	Open
	// HalfOpen lets a few trials pass: the classic policy.
	HalfOpen
)

// String returns closed, throttling, open or half_open.
func (p Phase) String() string {
	switch p {
	case Closed:
		return "closed"
	case Throttling:
		return "throttling"
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	default:
		return fmt.Sprintf("phase %d", uint8(p))
	}
}

// State is a reading of a breaker.
type State struct {
	// Policy is one of [Policies].
	Policy string
	// Phase is what the breaker does.
	Phase Phase
	// Sent is the number of attempts that count: for the adaptive policy those
	// sent within [Window], for the classic one those that have ended within
	// it, or had when it opened.
	Sent int64
	// Failed is how many of these were refused or, for the classic policy, have
	// failed.
	Failed int64
	// Reject is the probability that the next attempt is rejected, for the
	// adaptive policy at most [MaxReject].
	Reject float64
	// Since is when a classic breaker entered the phase, zero while it has
	// never been open.
	Since time.Time
	// Until is when an open breaker becomes half-open, else zero.
	Until time.Time
	// Trials is the number of attempts that a half-open breaker has let pass
	// and that have not said anything to the contrary, of at most MaxTrials.
	Trials, MaxTrials int
}

// Rejection is the error of an attempt that a breaker holds back.
type Rejection struct { //nolint:errname // it is what happened to the attempt, and reads so
	// At is when it was rejected.
	At time.Time
	// State is what the breaker decided from.
	State State
}

// Error says why the attempt was held back.
func (r *Rejection) Error() string {
	s := r.State
	switch s.Phase {
	case Open:
		return fmt.Sprintf("open for %s after %d of %d attempts failed, tries again in %s",
			round(r.At.Sub(s.Since)), s.Failed, s.Sent, round(s.Until.Sub(r.At)))
	case HalfOpen:
		return fmt.Sprintf("half-open for %s after %d of %d attempts failed, all %d trials in use",
			round(r.At.Sub(s.Since)), s.Failed, s.Sent, s.MaxTrials)
	case Closed, Throttling:
	}
	return fmt.Sprintf("%d of the %d attempts of the last %s were refused, so %.0f%% are not sent",
		s.Failed, s.Sent, Window, s.Reject*100)
}

// round makes a duration readable.
func round(d time.Duration) time.Duration {
	return max(d, 0).Round(100 * time.Millisecond)
}
