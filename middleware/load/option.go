package load

import "plinth.internal/middleware"

// Option changes what a [Tracker] does.
type Option interface{ apply(o *options) }

type options struct {
	onBounce func(*middleware.Call)
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// OnBounce has fn called for every call that is handed back, in the goroutine of
// that call, which waits for it. The default is none.
func OnBounce(fn func(call *middleware.Call)) Option {
	return optionFunc(func(o *options) { o.onBounce = fn })
}
