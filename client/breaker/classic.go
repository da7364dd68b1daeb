package breaker

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// What gobreaker is told about an attempt; nil is success.
var (
	errFailed  = errors.New("failed")
	errNeutral = errors.New("neutral")
)

// classic is the breaker of three states.
type classic struct {
	// Set at construction, never changed.
	config Config
	three  *gobreaker.TwoStepCircuitBreaker[struct{}]

	// Written in gobreaker's callbacks, which it makes under its own lock.
	phase  atomic.Pointer[entry] // nil while it has never been open
	failed atomic.Int64          // when it opened last
	sent   atomic.Int64          // likewise

	mu     sync.Mutex // never held while gobreaker is called
	trials []*attempt // in flight, oldest first
}

// entry is when a phase was entered.
type entry struct {
	state gobreaker.State
	since time.Time
}

// attempt is one that was allowed.
type attempt struct {
	began time.Time
	trial bool // the breaker was half-open
	done  func(error)
	ended atomic.Bool // told to gobreaker
}

func (a *attempt) end(err error) {
	if a.ended.CompareAndSwap(false, true) {
		a.done(err)
	}
}

func newClassic(config Config) *classic {
	c := &classic{config: config}
	c.three = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  uint32(config.Trials),
		Interval:     Window,
		BucketPeriod: bucketWidth,
		Timeout:      config.OpenFor,
		IsExcluded:   func(err error) bool { return errors.Is(err, errNeutral) },
		ReadyToTrip:  c.trips,
		OnStateChange: func(_ string, _, to gobreaker.State) {
			c.phase.Store(&entry{state: to, since: time.Now()})
		},
	})
	return c
}

// trips decides whether a closed breaker opens.
func (c *classic) trips(counts gobreaker.Counts) bool {
	failed := int64(counts.TotalFailures)
	ended := failed + int64(counts.TotalSuccesses)
	if ended < int64(c.config.MinCalls) || float64(failed) <= c.config.FailureShare*float64(ended) {
		return false
	}
	c.failed.Store(failed)
	c.sent.Store(ended)
	return true
}

// Allow decides about an attempt that is about to be sent.
func (c *classic) Allow(now time.Time) (Permit, error) {
	done, err := c.three.Allow()
	if errors.Is(err, gobreaker.ErrTooManyRequests) && c.giveUp(now) {
		done, err = c.three.Allow()
	}
	if err != nil {
		return Permit{}, &Rejection{At: now, State: c.State(now)}
	}
	a := &attempt{began: now, done: done}
	if p := c.phase.Load(); p != nil && p.state == gobreaker.StateHalfOpen {
		a.trial = true
		c.mu.Lock()
		c.trials = append(c.trials, a)
		c.mu.Unlock()
	}
	return Permit{attempt: a}, nil
}

// giveUp gives back the places of the trials that take too long, and reports
// whether there were any. A stream may last for days.
func (c *classic) giveUp(now time.Time) bool {
	c.mu.Lock()
	n := 0
	for n < len(c.trials) && now.Sub(c.trials[n].began) > c.config.OpenFor {
		n++
	}
	late := slices.Clone(c.trials[:n])
	c.trials = slices.Delete(c.trials, 0, n)
	c.mu.Unlock()
	for _, a := range late {
		a.end(errNeutral)
	}
	return n > 0
}

// Done records how an attempt that was allowed has ended.
func (c *classic) Done(_ time.Time, permit Permit, outcome Outcome) {
	a := permit.attempt
	if a == nil {
		return // a permit of another breaker
	}
	if a.trial {
		c.mu.Lock()
		if i := slices.Index(c.trials, a); i >= 0 {
			c.trials = slices.Delete(c.trials, i, i+1)
		}
		c.mu.Unlock()
	}
	switch outcome {
	case Accepted:
		a.end(nil)
	case Refused, Failed:
		a.end(errFailed)
	default:
		a.end(errNeutral)
	}
}

// State tells what the breaker would decide from.
func (c *classic) State(time.Time) State {
	state := c.three.State() // first: it moves on from a phase that is over
	counts := c.three.Counts()
	s := State{Policy: PolicyClassic, MaxTrials: c.config.Trials}
	if p := c.phase.Load(); p != nil {
		s.Since = p.since
	}
	if state == gobreaker.StateClosed {
		s.Failed = int64(counts.TotalFailures)
		s.Sent = s.Failed + int64(counts.TotalSuccesses)
		return s
	}
	s.Failed, s.Sent = c.failed.Load(), c.sent.Load()
	if state == gobreaker.StateOpen {
		s.Phase, s.Reject, s.Until = Open, 1, s.Since.Add(c.config.OpenFor)
		return s
	}
	s.Phase = HalfOpen
	s.Trials = max(int(counts.Requests)-int(counts.TotalExclusions), 0)
	if s.Trials >= s.MaxTrials {
		s.Reject = 1
	}
	return s
}
