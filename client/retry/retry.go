// Package retry decides whether an attempt that failed is made again. It is a
// function over numbers: time is passed in, nothing waits here, and it knows no
// transport. The rules follow gRFC A6 where that says something.
//
// Guarantees:
//   - An attempt that may have been processed is repeated only if the call is
//     idempotent.
//   - Retries of calls that reached an instance are paid for from a [Budget], so
//     that they add at most a tenth to the load in the long run. What provably
//     never reached one is free: it loads nobody.
//   - A server's word counts: its pushback sets the delay or forbids the retry,
//     and overload is retried only where a pushback or the error itself invites
//     to. An error that invites to may be one that is final otherwise.
//   - A hedge, the second attempt of a call whose first one still runs, is made
//     where it is asked for, of idempotent calls only, once a call, and is paid
//     for from the same budget.
//   - All methods may be called concurrently.
package retry

import (
	"fmt"
	"strconv"
	"time"

	"plinth.internal/internal/backoff"
)

// Defaults of [Policy].
const (
	// DefaultMaxAttempts includes the first attempt.
	DefaultMaxAttempts = 3
	// DefaultBackoff is the longest delay before the first retry.
	DefaultBackoff = 25 * time.Millisecond
	// DefaultMaxBackoff limits the delay before any retry.
	DefaultMaxBackoff = time.Second
)

// Costs of a retry in tokens of a [Budget].
const (
	// Cost is what a retry costs.
	Cost = 1
	// TimeoutCost is what a retry after a timeout costs: the first attempt may
	// still be running.
	TimeoutCost = 2
)

// Outcome is how an attempt ended, as far as retrying is concerned.
type Outcome uint8

const (
	// OK is success.
	OK Outcome = iota
	// Unavailable means that the instance was not reached or went away.
	Unavailable
	// Overloaded means that the instance turned the attempt away to protect
	// itself.
	Overloaded
	// Timeout means that the attempt's deadline passed.
	Timeout
	// Broken means that the instance failed in a way that another one may not.
	Broken
	// Canceled means that the caller gave up.
	Canceled
	// Final means an answer that would be the same everywhere.
	Final
)

// Reason says why a retry is made or not, in a few words for metrics and logs.
type Reason string

// Reasons to retry.
const (
	// ReasonUnsent: the attempt never reached an instance.
	ReasonUnsent Reason = "unsent"
	// ReasonUnavailable: the outcome was [Unavailable].
	ReasonUnavailable Reason = "unavailable"
	// ReasonPushback: the server asked to come back later.
	ReasonPushback Reason = "pushback"
	// ReasonInvited: the error says that it may be retried.
	ReasonInvited Reason = "invited"
	// ReasonTimeout: the outcome was [Timeout].
	ReasonTimeout Reason = "timeout"
	// ReasonBroken: the outcome was [Broken].
	ReasonBroken Reason = "broken"
	// ReasonHedge: the attempt takes longer than most; see [Hedge].
	ReasonHedge Reason = "hedge"
)

// Reasons not to retry.
const (
	// NotNeeded: the outcome is success, the caller's own doing, or final.
	NotNeeded Reason = "not_needed"
	// NotIdempotent: the attempt may have been processed, and twice is wrong.
	NotIdempotent Reason = "not_idempotent"
	// NotReplayable: what was sent was not kept.
	NotReplayable Reason = "not_replayable"
	// NotInvited: overload without a pushback.
	NotInvited Reason = "overload"
	// NotWanted: a negative or unreadable pushback.
	NotWanted Reason = "pushback_refused"
	// NotAgain: a layer below has retried already.
	NotAgain Reason = "retried_below"
	// NoAttempts: the policy's attempts are used up.
	NoAttempts Reason = "attempts"
	// NoTime: the deadline would pass before the retry, or before its answer.
	NoTime Reason = "deadline"
	// NoBudget: the budget is used up.
	NoBudget Reason = "budget"
)

// Policy limits the attempts of a call. The zero Policy has the defaults.
type Policy struct {
	// MaxAttempts includes the first attempt; 0 means [DefaultMaxAttempts],
	// 1 means no retry.
	MaxAttempts int
	// Backoff is the longest delay before the first retry; it doubles with
	// each one, and the delay is drawn evenly between zero and it. 0 means
	// [DefaultBackoff].
	Backoff time.Duration
	// MaxBackoff limits the doubling; 0 means [DefaultMaxBackoff].
	MaxBackoff time.Duration
}

// Validate checks that the values are in range. An error names the field, the
// value and the constraint.
func (p Policy) Validate() error {
	switch {
	case p.MaxAttempts < 0 || p.MaxAttempts > 10:
		return fmt.Errorf("set Retry.MaxAttempts to %d: must be from 1 to 10, or 0 for the default of %d", p.MaxAttempts, DefaultMaxAttempts)
	case p.Backoff < 0:
		return fmt.Errorf("set Retry.Backoff to %s: must not be negative", p.Backoff)
	case p.MaxBackoff < 0:
		return fmt.Errorf("set Retry.MaxBackoff to %s: must not be negative", p.MaxBackoff)
	}
	return nil
}

// WithDefaults fills in the defaults for zero fields.
func (p Policy) WithDefaults() Policy {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = DefaultMaxAttempts
	}
	if p.Backoff == 0 {
		p.Backoff = DefaultBackoff
	}
	if p.MaxBackoff == 0 {
		p.MaxBackoff = DefaultMaxBackoff
	}
	return p
}

// Attempt is what is known of an attempt that has ended.
type Attempt struct {
	// Number is 1 for the first attempt of a call.
	Number int
	// Outcome is how it ended.
	Outcome Outcome
	// Idempotent means that the call may be processed twice.
	Idempotent bool
	// Stream means that messages were sent which nobody kept.
	Stream bool
	// Unsent means that the attempt provably never reached an instance.
	Unsent bool
	// RetriedBelow means that the answer carries the mark of a layer that has
	// retried already.
	RetriedBelow bool
	// Pushback is what the server says about retrying.
	Pushback Pushback
	// Invited means that the server's error says that the call may be made again
	// (google.rpc.RetryInfo), whatever its code is. It does not say that nothing
	// has happened, so a call that is not idempotent is not repeated for it.
	Invited bool
	// Remaining is the time until the call's deadline. A call without one has
	// the largest duration.
	Remaining time.Duration
	// Expected is how long the next attempt is likely to take, 0 if that is not
	// known. An attempt that would not be answered in time is not made.
	Expected time.Duration
}

// Decision is what to do about an attempt.
type Decision struct {
	// Retry is whether another attempt is made.
	Retry bool
	// Delay is how long to wait before it.
	Delay time.Duration
	// Reason is why, or why not.
	Reason Reason
}

// Decide decides about an attempt that has ended. It takes the cost of a retry
// from the budget only if everything else speaks for the retry, so each
// decision to retry must be carried out.
func (p Policy) Decide(now time.Time, a Attempt, budget *Budget) Decision {
	p = p.WithDefaults()
	reason, ok := a.retryable()
	if !ok {
		return Decision{Reason: reason}
	}
	if a.Number >= p.MaxAttempts {
		return Decision{Reason: NoAttempts}
	}
	var delay time.Duration
	switch {
	case a.Pushback.given:
		delay = a.Pushback.delay
	case a.Unsent && a.Number == 1:
		// Nobody is spared by waiting: the next attempt goes elsewhere.
	default:
		delay = backoff.FullJitter(p.Backoff, p.MaxBackoff, a.Number-1)
	}
	if delay >= a.Remaining || a.Remaining-delay < a.Expected {
		return Decision{Reason: NoTime}
	}
	cost := Cost
	switch {
	case a.Unsent:
		cost = 0
	case a.Outcome == Timeout:
		cost = TimeoutCost
	}
	if !budget.Withdraw(now, cost) {
		return Decision{Reason: NoBudget}
	}
	return Decision{Retry: true, Delay: delay, Reason: reason}
}

// retryable is the part of the decision that depends on the attempt alone.
func (a Attempt) retryable() (Reason, bool) {
	var reason Reason
	switch a.Outcome {
	case Unavailable:
		reason = ReasonUnavailable
	case Overloaded:
		reason = ReasonPushback
	case Timeout:
		reason = ReasonTimeout
	case Broken:
		reason = ReasonBroken
	case Final:
		if !a.Invited {
			return NotNeeded, false
		}
	default:
		return NotNeeded, false
	}
	switch {
	case a.RetriedBelow:
		return NotAgain, false
	case a.Pushback.given && a.Pushback.never:
		return NotWanted, false
	case a.Unsent:
		return ReasonUnsent, true
	case a.Stream:
		return NotReplayable, false
	case !a.Idempotent:
		return NotIdempotent, false
	case a.Outcome == Overloaded && !a.Pushback.given && !a.Invited:
		return NotInvited, false
	case a.Pushback.given:
		return ReasonPushback, true
	case a.Invited:
		return ReasonInvited, true
	}
	return reason, true
}

// Pushback is a server's word on retrying. The zero Pushback says nothing.
type Pushback struct {
	given, never bool
	delay        time.Duration
}

// After is the pushback of a server that asks to wait for d before the next
// attempt; zero and less are no pushback.
func After(d time.Duration) Pushback {
	if d <= 0 {
		return Pushback{}
	}
	return Pushback{given: true, delay: d}
}

// Given reports whether the server says anything.
func (p Pushback) Given() bool { return p.given }

// ParsePushback reads the value of grpc-retry-pushback-ms; "" is no pushback.
// "If the value for pushback is negative or unparseable, then it will be seen as
// the server asking the client not to retry at all." - A6
func ParsePushback(ms string) Pushback {
	if ms == "" {
		return Pushback{}
	}
	// The 32 bits keep the multiplication below from overflowing.
	n, err := strconv.ParseInt(ms, 10, 32)
	if err != nil || n < 0 {
		return Pushback{given: true, never: true}
	}
	return Pushback{given: true, delay: time.Duration(n) * time.Millisecond}
}
