package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
)

// DefaultTimeout is the deadline of a call for which nothing else is said.
const DefaultTimeout = 3 * time.Second

// DefaultConnectTimeout is the most that making a TCP connection may take. Within
// a data centre one that takes longer is one to a host that is gone.
const DefaultConnectTimeout = 500 * time.Millisecond

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
	// ConnectTimeout is the longest that making a TCP connection may take; 0
	// means [DefaultConnectTimeout]. The one for the method "" counts: all
	// methods share the connections.
	ConnectTimeout time.Duration
	// Retry limits the attempts.
	Retry retry.Policy
	// Hedge sends a second attempt of a slow idempotent call; off by default.
	Hedge retry.HedgePolicy
	// Balancer names the policy that picks instances, one of
	// [balancer.Names]; "" means [balancer.NameAdaptive].
	Balancer string
	// HashHeader names the metadata or header whose value is the key of
	// [balancer.NameConsistentHash], where the call's context has none from
	// [WithHashKey]; "" means none.
	HashHeader string
	// Ejection says when an instance is kept out for its results. Those for
	// the method "" count: it is one decision for all methods of a service.
	Ejection outlier.Config
	// Breaker says when calls are held back because the service as a whole
	// does not want or manage them.
	Breaker breaker.Config
	// OwnBreaker gives the method a breaker of its own instead of the one that
	// all methods of the service share.
	OwnBreaker bool
}

// DefaultSettings returns settings with every default spelled out, but for
// Timeout, whose default depends on the kind of the call.
func DefaultSettings() Settings {
	return Settings{
		ConnectTimeout: DefaultConnectTimeout,
		Retry:          retry.Policy{}.WithDefaults(),
		Balancer:       balancer.NameAdaptive,
		Ejection:       outlier.Config{}.WithDefaults(),
		Breaker:        breaker.Config{}.WithDefaults(),
	}
}

// Validate checks the values. The error names each field that is wrong, its
// value and the constraint.
func (s Settings) Validate() error {
	var errs []error
	if s.AttemptTimeout < 0 {
		errs = append(errs, fmt.Errorf("set AttemptTimeout to %s: must not be negative", s.AttemptTimeout))
	}
	if s.ConnectTimeout < 0 {
		errs = append(errs, fmt.Errorf("set ConnectTimeout to %s: must not be negative", s.ConnectTimeout))
	}
	if s.Balancer != "" && !slices.Contains(balancer.Names(), s.Balancer) {
		errs = append(errs, fmt.Errorf("set Balancer to %q: must be one of %q", s.Balancer, balancer.Names()))
	}
	return errors.Join(append(errs, s.Retry.Validate(), s.Hedge.Validate(), s.Ejection.Validate(), s.Breaker.Validate())...)
}

// effective replaces what is not valid by its default. Where a default is the
// zero value or anything unknown, the code that reads the field takes care.
func (s Settings) effective() Settings {
	if s.Retry.Validate() != nil {
		s.Retry = retry.Policy{}
	}
	s.Retry = s.Retry.WithDefaults()
	if s.Hedge.Validate() != nil {
		s.Hedge = retry.HedgePolicy{}
	}
	return s
}

// connectTimeout is the one that is used.
func (s Settings) connectTimeout() time.Duration {
	if s.ConnectTimeout <= 0 {
		return DefaultConnectTimeout
	}
	return s.ConnectTimeout
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
