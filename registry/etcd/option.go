package etcd

import (
	"time"

	"plinth.internal/registry"
)

// DefaultNamespace is the key prefix of all of Plinth's keys.
const DefaultNamespace = "/plinth"

// Option changes the registry that [Open], or the elector that [NewElector] returns.
type Option interface {
	apply(o *options)
}

type options struct {
	namespace   string
	registry    []registry.Option
	electionTTL time.Duration
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithNamespace sets the prefix of all keys. The default, and empty, is
// [DefaultNamespace], "/plinth". A slash at the end makes no difference.
// Registries with different namespaces do not see each other's instances.
func WithNamespace(namespace string) Option {
	return optionFunc(func(o *options) { o.namespace = namespace })
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
	o.namespace = cleanNamespace(o.namespace)
	return o
}
