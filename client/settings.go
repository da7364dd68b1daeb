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
	"plinth.internal/client/route"
	"plinth.internal/client/subset"
)

// DefaultTimeout is the deadline of a call for which nothing else is said.
const DefaultTimeout = 3 * time.Second

// DefaultConnectTimeout is the most that making a TCP connection may take. Within
// a data centre one that takes longer is one to a host that is gone.
const DefaultConnectTimeout = 500 * time.Millisecond

// DefaultMaxConnections is the most connections to one instance over HTTP for
// which nothing else is said.
const DefaultMaxConnections = 256

// How much a server may send over gRPC before it is read: of one stream, and of
// all streams of a connection, in bytes. Left to itself grpc measures what each
// connection can carry, with a ping every few calls, which costs a unary call a
// sixth of its time.
const (
	StreamWindow     = 1 << 20
	ConnectionWindow = 4 << 20
)

// Settings are what can be chosen for each method of each service. The zero
// value of a field means its default.
type Settings struct {
	// Timeout is the longest that a unary call or an HTTP request may take with
	// all its attempts; the caller's own deadline counts if it is earlier. 0 means
	// [DefaultTimeout], negative means none.
	Timeout time.Duration
	// StreamTimeout is the longest that a stream over gRPC may last, which Timeout
	// does not bound: streams are meant to last. 0 or less means that the caller's
	// own deadline alone counts.
	StreamTimeout time.Duration
	// AttemptTimeout is the longest that one attempt of an idempotent unary
	// call or HTTP request may take; 0 means as long as the call. Where the
	// call may not be repeated it has no effect: it would only end it early.
	// Nor has it, over HTTP, once the head of a response below 400 is there.
	AttemptTimeout time.Duration
	// ConnectTimeout is the longest that making a TCP connection may take; 0
	// means [DefaultConnectTimeout]. The one for the method "" counts: all
	// methods share the connections.
	ConnectTimeout time.Duration
	// MaxConnections is the most connections to one instance that requests over
	// HTTP may have open, in use or waiting for the next one; 0 means
	// [DefaultMaxConnections], negative means no bound. A request for which
	// there is none left waits for one, for as long as its deadline lets it, and
	// the instance looks busy to the balancer then; one that gets none was not
	// sent, and nobody is judged by it. A response occupies its
	// connection until the body is read or closed: set more where many are
	// streams. The one for the method "" counts, as with ConnectTimeout. Over
	// gRPC and net/rpc all calls to an instance share one connection.
	MaxConnections int
	// TLS says how the connections are protected; nil means that nothing is
	// said: connections to other machines are refused then. The one for the
	// method "" counts, as with ConnectTimeout.
	TLS *TLS
	// TokenFile is a file with a bearer token that calls over gRPC and HTTP are
	// made with; "" means none. It is read again within a second of a change, and
	// what it held last stays in use while it cannot be read. It needs a mode in
	// TLS; see [WithToken].
	TokenFile string
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
	// ZoneFactor is how much dearer a call to an instance of another zone is taken
	// to be, at least 1, for the policies that compare costs; see
	// [balancer.Set.SetAwayFactor] and [WithZone]. 0 means
	// [balancer.DefaultAwayFactor], 1 that zones do not matter. The one for the
	// method "" counts.
	ZoneFactor float64
	// Subset says when the client keeps to some of the instances, so that it need
	// not be connected to all of a large fleet; see [WithID]. The policy
	// [balancer.NameConsistentHash] always has all of them. The one for the method
	// "" counts.
	Subset subset.Config
	// Routes are the rules by which some calls go to some instances; nil means
	// none. It is one decision for all methods of a service: give the same table
	// for each of them, and keep it, as another one is a change of the rules.
	Routes *route.Table
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

// DefaultSettings returns settings with every default spelled out.
func DefaultSettings() Settings {
	return Settings{
		Timeout:        DefaultTimeout,
		ConnectTimeout: DefaultConnectTimeout,
		MaxConnections: DefaultMaxConnections,
		Retry:          retry.Policy{}.WithDefaults(),
		Balancer:       balancer.NameAdaptive,
		ZoneFactor:     balancer.DefaultAwayFactor,
		Subset:         subset.Config{}.WithDefaults(),
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
	return errors.Join(append(errs, s.validZoneFactor(), s.Subset.Validate(), s.TLS.Validate(), s.checkToken(), s.Retry.Validate(), s.Hedge.Validate(), s.Ejection.Validate(), s.Breaker.Validate())...)
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

// maxConnections is the bound that is used; 0 = none.
func (s Settings) maxConnections() int {
	switch {
	case s.MaxConnections > 0:
		return s.MaxConnections
	case s.MaxConnections < 0:
		return 0
	}
	return DefaultMaxConnections
}

// timeout is the total timeout for a kind of call; 0 = none.
func (s Settings) timeout(stream bool) time.Duration {
	switch {
	case stream:
		return max(s.StreamTimeout, 0)
	case s.Timeout == 0:
		return DefaultTimeout
	}
	return max(s.Timeout, 0)
}
