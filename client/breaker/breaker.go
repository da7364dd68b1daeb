// Package breaker holds back calls to a service that refuses or fails most of
// them. There are two policies behind one interface; both start nothing and wait
// for nothing.
//
// The default is the adaptive throttle of "Site Reliability Engineering", chapter
// 21. Over the last ten seconds it counts the attempts that were sent and those
// of them that the service refused because of overload. A new attempt is rejected
// with the probability
//
//	p = (sent - K*(sent-refused) - Slack) / (sent + 1)    at most MaxReject
//
// Guarantees of the adaptive policy:
//   - A service that refuses less than half of what it is sent (K = 2) sees no
//     difference; nothing trips, nothing is ever fully closed, and no timer has to
//     run out: the tenth that still passes is what finds out that the service is
//     well again.
//   - Only overload counts. An attempt that has not ended counts as accepted, so
//     a service that is slow, or a burst at start, is not throttled for it.
//   - Rejected calls are not counted as sent. The book counts them, which
//     throttles a large overload harder but takes three times as long to let go.
//
// The classic policy has the three states of sony/gobreaker, which it is built
// on: closed, open when more than FailureShare of at least MinCalls attempts of
// the last ten seconds were refused or failed, and OpenFor later half-open, where
// Trials attempts may be sent. If all of these succeed it closes; if one fails it
// opens again. It stops all calls of a service for as long as that takes, also
// those that would have succeeded on a healthy instance, which is why it is not
// the default.
//
// Guarantees of the classic policy:
//   - Attempts that began before the breaker opened do not count after it, nor
//     do those that began before it closed.
//   - An attempt that says nothing gives its trial's place back, and so does one
//     that takes longer than OpenFor.
//   - gobreaker reads the time itself. The times that are passed in decide only
//     when a trial takes too long; they must be those of time.Now, be it in a
//     synctest bubble. A simulation with a clock of its own can use the adaptive
//     policy only.
//
// All methods may be called concurrently; a mutex is held for nanoseconds.
package breaker

import (
	"fmt"
	"slices"
	"time"
)

// Window is how long an attempt is remembered.
const Window = buckets * bucketWidth

// The policies, as [Config] names them.
const (
	// PolicyAdaptive is the throttle, the default.
	PolicyAdaptive = "adaptive"
	// PolicyClassic is the breaker of three states.
	PolicyClassic = "classic"
	// PolicyOff lets every attempt pass.
	PolicyOff = "off"
)

// Policies lists the names of the policies, sorted.
func Policies() []string { return []string{PolicyAdaptive, PolicyClassic, PolicyOff} }

// Defaults of [Config].
const (
	// DefaultFailureShare is half of the attempts.
	DefaultFailureShare = 0.5
	// DefaultMinCalls is in attempts within [Window].
	DefaultMinCalls = 20
	// DefaultOpenFor is how long a breaker stays open.
	DefaultOpenFor = 30 * time.Second
	// DefaultTrials is in attempts.
	DefaultTrials = 3
)

// Config chooses a policy and its numbers. The zero Config is the adaptive
// policy. Configs can be compared with ==.
type Config struct {
	// Policy is one of [Policies]; "" means [PolicyAdaptive].
	Policy string
	// FailureShare is the share of the attempts that must be exceeded by
	// failures to open a classic breaker, from 0 to 1, both excluded; 0 means
	// [DefaultFailureShare]. The other policies do not use it.
	FailureShare float64
	// MinCalls is the number of attempts that must have ended within [Window]
	// before a classic breaker opens; 0 means [DefaultMinCalls]. The other
	// policies do not use it.
	MinCalls int
	// OpenFor is how long a classic breaker stays open before it is half-open;
	// 0 means [DefaultOpenFor]. The other policies do not use it.
	OpenFor time.Duration
	// Trials is the number of attempts that a half-open classic breaker lets
	// through, and of which all must succeed to close it; 0 means
	// [DefaultTrials]. The other policies do not use it.
	Trials int
}

const maxTrials = 1000

// Validate checks that the values are in range. An error names the field, the
// value and the constraint.
func (c Config) Validate() error {
	switch {
	case c.Policy != "" && !slices.Contains(Policies(), c.Policy):
		return fmt.Errorf("set Breaker.Policy to %q: must be one of %q", c.Policy, Policies())
	case !(c.FailureShare >= 0 && c.FailureShare < 1): // so written, it finds a NaN
		return fmt.Errorf("set Breaker.FailureShare to %v: must be between 0 and 1, or 0 for the default of %v", c.FailureShare, DefaultFailureShare)
	case c.MinCalls < 0:
		return fmt.Errorf("set Breaker.MinCalls to %d: must be at least 1, or 0 for the default of %d", c.MinCalls, DefaultMinCalls)
	case c.OpenFor < 0:
		return fmt.Errorf("set Breaker.OpenFor to %s: must not be negative", c.OpenFor)
	case c.Trials < 0 || c.Trials > maxTrials:
		return fmt.Errorf("set Breaker.Trials to %d: must be from 1 to %d, or 0 for the default of %d", c.Trials, maxTrials, DefaultTrials)
	}
	return nil
}

// WithDefaults fills in the defaults for zero fields.
func (c Config) WithDefaults() Config {
	if c.Policy == "" {
		c.Policy = PolicyAdaptive
	}
	if c.FailureShare == 0 {
		c.FailureShare = DefaultFailureShare
	}
	if c.MinCalls == 0 {
		c.MinCalls = DefaultMinCalls
	}
	if c.OpenFor == 0 {
		c.OpenFor = DefaultOpenFor
	}
	if c.Trials == 0 {
		c.Trials = DefaultTrials
	}
	return c
}

// Outcome is how an attempt ended, as far as a breaker is concerned.
type Outcome uint8

const (
	// Accepted means that the service took the attempt on and did its work,
	// even if the answer was an error that the caller caused.
	Accepted Outcome = iota
	// Refused means that the service turned the attempt away, or was not there.
	Refused
	// Neutral means that the attempt says nothing: the caller gave up, or it
	// was never sent. It is taken out of the count.
	Neutral
	// Failed means that the service took the attempt on and did not do its
	// work: an internal error, a deadline that passed. It is Accepted for the
	// adaptive policy, which knows overload only, and a failure for the classic
	// one.
	Failed
)

// Breaker holds back attempts at one service, or at one method of it. It is made
// by [New].
type Breaker interface {
	// Allow decides about an attempt that is about to be sent. Without an
	// error the attempt is counted, and its permit must be given back to Done
	// exactly once. The error is a [*Rejection].
	Allow(now time.Time) (Permit, error)
	// Done records how an attempt that was allowed has ended. It counts for
	// the moment it was sent; an attempt that is older than the window is
	// forgotten.
	Done(now time.Time, permit Permit, outcome Outcome)
	// State tells what the breaker would decide from.
	State(now time.Time) State
}

// Permit is the right to send one attempt.
type Permit struct {
	epoch   int64    // of an adaptive breaker
	attempt *attempt // of a classic one
}

// New returns a breaker that has seen nothing. The numbers in [0, 1) that random
// returns decide which calls the adaptive policy rejects; nil means the runtime's
// own source, which is the right one everywhere but in a test with a fixed seed.
// It is called concurrently. A config that is not valid counts as the default
// one.
func New(config Config, now time.Time, random func() float64) Breaker {
	if config.Validate() != nil {
		config = Config{}
	}
	switch config = config.WithDefaults(); config.Policy {
	case PolicyClassic:
		return newClassic(config)
	case PolicyOff:
		return off{}
	default:
		return newAdaptive(now, random)
	}
}

// off lets everything pass.
type off struct{}

func (off) Allow(time.Time) (Permit, error) { return Permit{}, nil }
func (off) Done(time.Time, Permit, Outcome) {}
func (off) State(time.Time) State           { return State{Policy: PolicyOff} }
