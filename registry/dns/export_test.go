package dns

import "time"

// WithTimeout shortens LookupTimeout for tests of DNS servers that do not
// answer.
func WithTimeout(d time.Duration) Option {
	return optionFunc(func(o *options) { o.timeout = d })
}
