package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
)

// DefaultTimeout is the deadline of a call for which nothing else is said.
const DefaultTimeout = 3 * time.Second

// Values of [Settings.Balancer] and [Settings.Breaker].
const (
	// LeastRequest is [balancer.LeastRequest], the default.
	LeastRequest = balancer.NameLeastRequest
	// RoundRobin is [balancer.RoundRobin].
	RoundRobin = balancer.NameRoundRobin
	// BreakerAdaptive is the throttle of the package breaker, the default.
	BreakerAdaptive = "adaptive"
	// BreakerOff lets every attempt pass.
	BreakerOff = "off"
)

// Settings are what can be chosen for each method of each service. The zero
// value of a field means its default.
type Settings struct {
	// Timeout is the longest that a call may take with all its attempts; the
	// caller's own deadline counts if it is earlier. 0 means [DefaultTimeout]
	// for unary calls and HTTP requests and none for streams, which are meant
	// to last; negative means none for any.
	Timeout time.Duration
	// AttemptTimeout is the longest that one attempt of an idempotent unary
	// call or HTTP request may take; 0 means as long as the call. Where the
	// call may not be repeated it has no effect: it would only end it early.
	AttemptTimeout time.Duration
	// Retry limits the attempts.
	Retry retry.Policy
	// Balancer is the policy that picks instances: [LeastRequest] or
	// [RoundRobin]; "" means LeastRequest.
	Balancer string
	// Breaker is [BreakerAdaptive] or [BreakerOff]; "" means BreakerAdaptive.
	Breaker string
}

// DefaultSettings returns settings with every default spelled out, but for
// Timeout, whose default depends on the kind of the call.
func DefaultSettings() Settings {
	return Settings{
		Retry:    retry.Policy{}.WithDefaults(),
		Balancer: LeastRequest,
		Breaker:  BreakerAdaptive,
	}
}

var (
	balancers = []string{LeastRequest, RoundRobin}
	breakers  = []string{BreakerAdaptive, BreakerOff}
)

// Validate checks the values. The error names each field that is wrong, its
// value and the constraint.
func (s Settings) Validate() error {
	var errs []error
	if s.AttemptTimeout < 0 {
		errs = append(errs, fmt.Errorf("set AttemptTimeout to %s: must not be negative", s.AttemptTimeout))
	}
	if err := s.Retry.Validate(); err != nil {
		errs = append(errs, err)
	}
	if s.Balancer != "" && !slices.Contains(balancers, s.Balancer) {
		errs = append(errs, fmt.Errorf("set Balancer to %q: must be one of %q", s.Balancer, balancers))
	}
	if s.Breaker != "" && !slices.Contains(breakers, s.Breaker) {
		errs = append(errs, fmt.Errorf("set Breaker to %q: must be one of %q", s.Breaker, breakers))
	}
	return errors.Join(errs...)
}

// effective replaces what is not valid by its default. Where a default is the
// zero value or anything unknown, the code that reads the field takes care.
func (s Settings) effective() Settings {
	if s.Retry.Validate() != nil {
		s.Retry = retry.Policy{}
	}
	s.Retry = s.Retry.WithDefaults()
	return s
}

// timeout is the total timeout for a kind of call; 0 = none.
func (s Settings) timeout(stream bool) time.Duration {
	switch {
	case s.Timeout != 0:
		return max(s.Timeout, 0)
	case stream:
		return 0
	}
	return DefaultTimeout
}
