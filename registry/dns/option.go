package dns

import (
	"fmt"
	"net"
	"time"

	"plinth.internal/registry"
)

const (
	// DefaultMinRefresh is the shortest time between two lookups of a service,
	// however short its records' time to live.
	DefaultMinRefresh = time.Second
	// DefaultMaxRefresh is the longest, however long that is: a new instance is
	// seen after this time at the latest.
	DefaultMaxRefresh = 30 * time.Second
	// UnknownRefresh is the time between lookups while the answer has no time
	// to live, because it was negative or came from the hosts file.
	UnknownRefresh = 10 * time.Second
	// LookupTimeout bounds a lookup, and again the lookup of all its targets.
	// It leaves the system's resolver the time to try a second server.
	LookupTimeout = 10 * time.Second
)

// Option changes the registry that [Open] returns.
type Option interface {
	apply(o *options)
}

type options struct {
	server   string
	network  string
	min, max time.Duration
	timeout  time.Duration
	registry []registry.Option
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithServer sets the DNS server to ask, as host:port, instead of those of the
// system. Empty, the default, means the system's. The timeouts and the search
// path stay those of the system.
func WithServer(address string) Option {
	return optionFunc(func(o *options) { o.server = address })
}

// WithNetwork sets which addresses are listed: "ip4", "ip6", or "ip" for both,
// which is the default and what empty means. Choose one where each instance
// has both, or it is listed twice; and where the DNS server fails on questions
// about the other.
func WithNetwork(network string) Option {
	return optionFunc(func(o *options) { o.network = network })
}

// WithRefresh bounds the time between two lookups of a service, which is
// otherwise the time to live of its records. The defaults, which zero also
// means, are [DefaultMinRefresh], 1 second, and [DefaultMaxRefresh], 30
// seconds; where both are the same, that is the interval. Up to a fifth of it
// is added at random, so that many clients do not ask in step.
func WithRefresh(shortest, longest time.Duration) Option {
	return optionFunc(func(o *options) { o.min, o.max = shortest, longest })
}

// WithRegistry passes options on to the registry, such as
// [registry.WithEvents]. Given more than once, all are passed on in order.
func WithRegistry(opts ...registry.Option) Option {
	return optionFunc(func(o *options) { o.registry = append(o.registry, opts...) })
}

func newOptions(opts []Option) (options, error) {
	o := options{timeout: LookupTimeout}
	for _, opt := range opts {
		opt.apply(&o)
	}
	switch o.network {
	case "":
		o.network = "ip"
	case "ip", "ip4", "ip6":
	default:
		return o, fmt.Errorf("network %q: must be ip, ip4 or ip6", o.network)
	}
	if o.server != "" {
		if _, _, err := net.SplitHostPort(o.server); err != nil {
			return o, fmt.Errorf("server %q: must be host:port, such as 10.96.0.10:53", o.server)
		}
	}
	if o.min == 0 {
		o.min = DefaultMinRefresh
	}
	if o.max == 0 {
		o.max = DefaultMaxRefresh
	}
	if o.min < 0 || o.max < o.min {
		return o, fmt.Errorf("refresh between %v and %v: must not be negative, nor the longest below the shortest", o.min, o.max)
	}
	return o, nil
}
