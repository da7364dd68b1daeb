package kubernetes

import "plinth.internal/registry"

// Option changes the registry that [Open] returns.
type Option interface {
	apply(o *options)
}

type options struct {
	registry []registry.Option
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithRegistry passes options on to the registry, such as
// [registry.WithEvents]. Given more than once, all are passed on in order.
func WithRegistry(opts ...registry.Option) Option {
	return optionFunc(func(o *options) { o.registry = append(o.registry, opts...) })
}
