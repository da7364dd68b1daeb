package config

import (
	"reflect"
	"sync"
)

// Value is a struct whose hot keys follow the configuration. Use [Watch].
type Value[T any] struct {
	config *Config
	slot   int // of the binding

	mu  sync.Mutex
	fns []func(old, current T) // guarded by mu
}

// Get is the struct as it is now. It takes no lock. All values of a [Config]
// change in one step: who has seen the new state of one sees it in all. Maps
// and lists in the struct are shared and must not be changed.
func (v *Value[T]) Get() T {
	p, _ := v.config.state.Load().values[v.slot].(*T)
	return *p
}

// OnChange has fn called after each change of the struct, with what it was and
// what it is. All functions of a [Config] are called one at a time, in the order
// of the changes and of their registration, by the goroutine that reloads and
// with no lock held; one that takes long holds up the others and [Config.Follow].
// A change that comes before OnChange is not told, so register before [Value.Get].
func (v *Value[T]) OnChange(fn func(old, current T)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fns = append(v.fns, fn)
}

// changed makes the calls that are due when one struct takes another's place.
func (v *Value[T]) changed(before, after any) []func() {
	if reflect.DeepEqual(before, after) {
		return nil
	}
	old, _ := before.(*T)
	current, _ := after.(*T)
	v.mu.Lock()
	defer v.mu.Unlock()
	calls := make([]func(), 0, len(v.fns))
	for _, fn := range v.fns {
		calls = append(calls, func() { fn(*old, *current) })
	}
	return calls
}

// deliver makes the calls that are due, unless somebody is making them already:
// then they are made there, after those that came first.
func (c *Config) deliver() {
	c.mu.Lock()
	if c.delivering {
		c.mu.Unlock()
		return
	}
	c.delivering = true
	c.mu.Unlock()
	done := false
	defer func() {
		if !done { // a function panicked: the next reload makes the other calls
			c.mu.Lock()
			c.delivering = false
			c.mu.Unlock()
		}
	}()
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			c.delivering, done = false, true
			c.mu.Unlock()
			return
		}
		call := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		call()
	}
}
