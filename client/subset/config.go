package subset

import "fmt"

// The defaults of a [Config].
const (
	// DefaultSize is how many instances a client keeps to.
	DefaultSize = 20
	// DefaultAbove is the number of instances above which it does.
	DefaultAbove = 50
	// MinSize is the least that a size may be: if half of so many instances are
	// ejected, five are left to choose from.
	MinSize = 10
)

// Config says when a client keeps to a subset. The zero value means the defaults.
type Config struct {
	// Size is how many instances the client keeps to, at least [MinSize]; 0 means
	// [DefaultSize], below zero means all of them, always.
	Size int
	// Above is the number of instances above which the client does that; 0 means
	// [DefaultAbove]. With less than the size there is nothing to leave out.
	Above int
}

// WithDefaults replaces zero values by the defaults.
func (c Config) WithDefaults() Config {
	if c.Size == 0 {
		c.Size = DefaultSize
	}
	if c.Above == 0 {
		c.Above = DefaultAbove
	}
	return c
}

// Validate checks the values. The error names the field, its value and the
// constraint.
func (c Config) Validate() error {
	if c.Size > 0 && c.Size < MinSize {
		return fmt.Errorf("set Subset.Size to %d: must be at least %d, or negative for no subset", c.Size, MinSize)
	}
	if c.Above < 0 {
		return fmt.Errorf("set Subset.Above to %d: must not be negative", c.Above)
	}
	return nil
}

// Of returns the size of the subset of so many instances: all of them if that is
// not above the threshold. What is not valid is taken for the default.
func (c Config) Of(instances int) int {
	if c.Validate() != nil {
		c = Config{}
	}
	c = c.WithDefaults()
	if c.Size < 0 || instances <= c.Above {
		return instances
	}
	return min(c.Size, instances)
}
