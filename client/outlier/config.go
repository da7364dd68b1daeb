package outlier

import (
	"fmt"
	"time"
)

// Window is how long an outcome is remembered.
const Window = buckets * bucketWidth

// Forget is how long an instance must have been back for its earlier ejections
// to be forgotten: the next one is as short as the first.
const Forget = time.Minute

// Jitter is how far the length of an ejection is drawn from its middle, as a
// share of it, so that many clients do not try an instance in the same moment.
const Jitter = 0.1

// Defaults of [Config].
const (
	// DefaultConsecutive is in failures.
	DefaultConsecutive = 5
	// DefaultMinCalls is in outcomes within [Window].
	DefaultMinCalls = 10
	// DefaultFailureShare is half of an instance's outcomes.
	DefaultFailureShare = 0.5
	// DefaultWorse is 30 percentage points.
	DefaultWorse = 0.3
	// DefaultBase is the length of a first ejection.
	DefaultBase = 5 * time.Second
	// DefaultMax is the length that doubling ends at.
	DefaultMax = time.Minute
	// DefaultMaxEjected is half of the list.
	DefaultMaxEjected = 0.5
)

// Config says who is ejected, and for how long. A zero field has its default.
type Config struct {
	// Off ejects nobody; whoever is out comes back at once.
	Off bool
	// Consecutive is the number of failures in a row that ejects, where the
	// rest of the list hardly ever fails; see the package documentation for
	// where it does. 0 means [DefaultConsecutive].
	Consecutive int
	// MinCalls is the number of outcomes within [Window] below which their
	// share of failures is not looked at. 0 means [DefaultMinCalls].
	MinCalls int
	// FailureShare is the share of failures within Window that ejects, if it
	// is also much worse than the rest's. 0 means [DefaultFailureShare].
	FailureShare float64
	// Worse is by how much it must be worse, from 0 to 1: 0.3 is 30 percentage
	// points. 0 means [DefaultWorse].
	Worse float64
	// Base is the length of a first ejection. It doubles with each that
	// follows within [Forget], and is drawn within [Jitter]. 0 means
	// [DefaultBase].
	Base time.Duration
	// Max limits the doubling. 0 means [DefaultMax], or Base if that is longer.
	Max time.Duration
	// MaxEjected is the share of the list that may be out, from 0 to 1. If
	// more would be, nobody is kept out: when most instances fail, the ejector
	// knows less than it thinks. 0 means [DefaultMaxEjected].
	MaxEjected float64
}

// Validate checks that the values are in range. An error names the field, the
// value and the constraint.
func (c Config) Validate() error {
	switch {
	case c.Consecutive < 0:
		return fmt.Errorf("set Ejection.Consecutive to %d: must be at least 1, or 0 for the default of %d", c.Consecutive, DefaultConsecutive)
	case c.MinCalls < 0:
		return fmt.Errorf("set Ejection.MinCalls to %d: must be at least 1, or 0 for the default of %d", c.MinCalls, DefaultMinCalls)
	case !share(c.FailureShare):
		return fmt.Errorf("set Ejection.FailureShare to %v: must be from 0 to 1", c.FailureShare)
	case !share(c.Worse):
		return fmt.Errorf("set Ejection.Worse to %v: must be from 0 to 1", c.Worse)
	case c.Base < 0:
		return fmt.Errorf("set Ejection.Base to %s: must not be negative", c.Base)
	case c.Max < 0:
		return fmt.Errorf("set Ejection.Max to %s: must not be negative", c.Max)
	case c.Max > 0 && c.Max < c.Base:
		return fmt.Errorf("set Ejection.Max to %s: must not be less than Ejection.Base, which is %s", c.Max, c.Base)
	case !share(c.MaxEjected):
		return fmt.Errorf("set Ejection.MaxEjected to %v: must be from 0 to 1", c.MaxEjected)
	}
	return nil
}

// share is false for a NaN as well.
func share(x float64) bool { return x >= 0 && x <= 1 }

// WithDefaults fills in the defaults for zero fields.
func (c Config) WithDefaults() Config {
	if c.Consecutive == 0 {
		c.Consecutive = DefaultConsecutive
	}
	if c.MinCalls == 0 {
		c.MinCalls = DefaultMinCalls
	}
	if c.FailureShare == 0 {
		c.FailureShare = DefaultFailureShare
	}
	if c.Worse == 0 {
		c.Worse = DefaultWorse
	}
	if c.Base == 0 {
		c.Base = DefaultBase
		if c.Max > 0 {
			c.Base = min(c.Base, c.Max)
		}
	}
	if c.Max == 0 {
		c.Max = max(DefaultMax, c.Base)
	}
	if c.MaxEjected == 0 {
		c.MaxEjected = DefaultMaxEjected
	}
	return c
}

// effective is the config that is used: with its defaults, and with nothing but
// defaults if it is not valid.
func (c Config) effective() *Config {
	if c.Validate() != nil {
		c = Config{Off: c.Off}
	}
	c = c.WithDefaults()
	return &c
}
