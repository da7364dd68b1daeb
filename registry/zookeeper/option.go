package zookeeper

import (
	"context"
	"net"
	"strings"

	"plinth.internal/registry"
)

// DefaultNamespace is the node that all of Plinth's nodes are under.
const DefaultNamespace = "/plinth"

// Option changes the registry that [Open] returns.
type Option interface {
	apply(o *options)
}

type options struct {
	namespace string
	dial      DialFunc
	registry  []registry.Option
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// DialFunc connects to a server; it has the signature of the DialContext
// methods of [net.Dialer] and [crypto/tls.Dialer].
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// WithNamespace sets the node that all nodes are under. The default, and
// empty, is [DefaultNamespace], "/plinth". A slash at the beginning is added
// if it is not there; one at the end makes no difference. Registries with
// different namespaces do not see each other's instances.
func WithNamespace(namespace string) Option {
	return optionFunc(func(o *options) { o.namespace = namespace })
}

// WithDialer sets how servers are connected to, for TLS for example. The
// default, and nil, is TCP. The context ends after a second.
func WithDialer(dial DialFunc) Option {
	return optionFunc(func(o *options) { o.dial = dial })
}

// WithRegistry passes options on to the registry, such as
// [registry.WithTTL]. Given more than once, all are passed on in order.
func WithRegistry(opts ...registry.Option) Option {
	return optionFunc(func(o *options) { o.registry = append(o.registry, opts...) })
}

func newOptions(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt.apply(&o)
	}
	if o.namespace == "" {
		o.namespace = DefaultNamespace
	}
	o.namespace = "/" + strings.Trim(o.namespace, "/")
	if o.dial == nil {
		o.dial = new(net.Dialer).DialContext
	}
	return o
}
