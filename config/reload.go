package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Change is what a reload found.
type Change struct {
	// Applied are the hot keys whose values are others now, sorted.
	Applied []string
	// Restart are the keys that are read at the start only and have been given
	// another value since, sorted. Their values are still those of the start.
	Restart []string
}

// Status is what is known of the reloads.
type Status struct {
	// At is when the last reload ended; zero before the first one.
	At time.Time
	// Err is why it was rejected; nil while what is given is in use.
	Err error
	// Restart is the Restart of the last [Change] that was good.
	Restart []string
}

// Status tells how the last reload ended.
func (c *Config) Status() Status { return *c.status.Load() }

// Reload reads the file again and lays the layers over everything that was ever
// bound, as a restart would: every value, cold or hot, must be usable and every
// key known. Then all hot values change in one step, and the functions of
// [Value.OnChange] are called before it returns, unless another reload is
// calling functions right now: then that one calls these. Otherwise it returns
// all that is wrong, and nothing changes. A file that was there and is gone is an
// error as well.
//
// Call it when everything is bound. It may be called from any goroutine, but
// not from a Validate or UnmarshalText method.
func (c *Config) Reload() (Change, error) {
	return c.reload(c.read)
}

// reload is Reload for documents as they are read by a function.
func (c *Config) reload(read func() []text) (Change, error) {
	defer c.deliver()
	c.reloading.Lock()
	defer c.reloading.Unlock()
	change, err := c.apply(read())
	status := Status{At: time.Now(), Err: err, Restart: change.Restart}
	if err != nil {
		status.Restart = c.status.Load().Restart
	}
	c.status.Store(&status)
	return change, err
}

// apply takes the texts in use if they are good.
func (c *Config) apply(texts []text) (Change, error) {
	for {
		old := c.state.Load()
		next, restart, err := c.next(old, texts)
		if err != nil {
			return Change{}, err
		}
		if !c.state.CompareAndSwap(old, next) {
			continue // something was bound meanwhile
		}
		var calls []func()
		for i, b := range next.bindings {
			if b.changed != nil {
				calls = append(calls, b.changed(old.values[i], next.values[i])...)
			}
		}
		c.mu.Lock()
		c.queue = append(c.queue, calls...)
		c.mu.Unlock()
		change := Change{Restart: restart}
		change.Applied = slices.DeleteFunc(different(old.entries, next.entries), func(key string) bool {
			return !old.entries[key].Hot && !next.entries[key].Hot // a cold key in a section that has come or gone
		})
		return change, nil
	}
}

// next is the state that the texts lead to.
func (c *Config) next(old *state, texts []text) (*state, []string, error) {
	current, err := c.parse(old.current, texts, old.texts)
	if err != nil {
		return nil, nil, err
	}
	next := &state{
		start: old.start, current: current, texts: texts, bindings: old.bindings,
		values: make([]any, len(old.values)), entries: map[string]entry{}, used: map[*item]bool{},
	}
	var errs []error
	restart := map[string]bool{}
	for i, b := range old.bindings {
		r, err := b.bind(next.start, current)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		next.values[i] = r.value
		maps.Copy(next.entries, r.entries)
		maps.Copy(next.used, r.used)
		for _, key := range r.restart {
			restart[key] = true
		}
	}
	if len(errs) == 0 {
		errs = append(errs, current.unused(next.used, next.entries))
	}
	return next, slices.Sorted(maps.Keys(restart)), errors.Join(errs...)
}

// result is what a binding makes of the layers.
type result struct {
	value   any // a pointer to the struct
	entries map[string]entry
	used    map[*item]bool // of the current layers
	restart []string       // cold keys that have other values in the current layers
}

// bind lays the current layers over the struct, as a restart would, and then
// the start's for cold keys and the current ones for hot keys. The first must be
// usable, or the next restart would fail; the second must be, for it is what the
// process runs with.
func (bd *binding) bind(start, current layers) (result, error) {
	fresh := &binder{cold: current, warm: current, watch: bd.watch, hot: bd.allHot, strict: true, entries: map[string]entry{}, used: map[*item]bool{}}
	r := result{value: bd.lay(fresh), entries: fresh.entries, used: fresh.used}
	if err := errors.Join(fresh.errs...); err != nil {
		return result{}, err
	}
	if sameLayers(start, current) {
		return r, nil
	}
	mixed := &binder{cold: start, warm: current, watch: bd.watch, hot: bd.allHot, entries: map[string]entry{}, used: map[*item]bool{}}
	r.value, r.entries = bd.lay(mixed), mixed.entries
	if err := errors.Join(mixed.errs...); err != nil {
		return result{}, fmt.Errorf("combine the hot values with those that need a restart: %w", err)
	}
	r.restart = different(mixed.entries, fresh.entries)
	for key, e := range mixed.entries {
		// Where the value is the same it is found where it stands now.
		if f, ok := fresh.entries[key]; ok && reflect.DeepEqual(e.value, f.value) {
			mixed.entries[key] = f
		}
	}
	return r, nil
}

// sameLayers reports that nothing was read anew since the start.
func sameLayers(a, b layers) bool {
	return slices.EqualFunc(a, b, func(a, b layer) bool { return reflect.ValueOf(a.items).Pointer() == reflect.ValueOf(b.items).Pointer() })
}

// different are the keys that only one of two sets has, or with another value,
// sorted.
func different(a, b map[string]entry) []string {
	keys := map[string]bool{}
	for key, e := range a {
		if f, ok := b[key]; !ok || !reflect.DeepEqual(e.value, f.value) {
			keys[key] = true
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			keys[key] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
