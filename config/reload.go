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
	// Err is everything that is given and not in use, and why; nil while all that
	// is given is in use.
	Err error
	// Restart is the Restart of the last [Change] that was good.
	Restart []string
	// Documents are those of the feed, lowest precedence first; nil without one.
	Documents []DocumentStatus
	// Ignored are the keys of shared documents that nothing in this process knows,
	// sorted, without their values.
	Ignored []Entry
}

// DocumentStatus is what is known of a feed's document.
type DocumentStatus struct {
	// Name and Shared are those of the [Document].
	Name   string
	Shared bool
	// Revision is the version in use, 0 for none.
	Revision int64
	// Kept is when the text in use was kept on disk by an earlier process; zero
	// where it came from the feed.
	Kept time.Time
	// Err is why what the feed gives is not in use; nil where it is.
	Err error
}

// Status tells how the last reload ended.
func (c *Config) Status() Status { return *c.status.Load() }

// Reload reads the file and the feed's documents again and lays the layers over
// everything that was ever bound, as a restart would: every value, cold or hot,
// must be usable and every key known. Then all hot values change in one step, and
// the functions of [Value.OnChange] are called before it returns, unless another
// reload is calling functions right now: then that one calls these. A document
// that does not pass changes nothing, and all that is wrong is returned. A file
// that was there at the start and is gone is an error as well.
//
// Call it when everything is bound. It may be called from any goroutine, but
// not from a Validate or UnmarshalText method.
func (c *Config) Reload() (Change, error) {
	o := c.reload(func(offered []text) { copy(offered, slices.Concat(c.readFiles(), c.readFeed())) }, nil)
	return o.change, o.err
}

// outcome is how a reload ended.
type outcome struct {
	change   Change
	took     []string // the documents that were taken
	rejected error    // what is wrong with those that are newly given
	err      error    // what is wrong with all that are given
}

// reload takes what is given if it is good. A function changes what is given;
// kept are texts to use where that is not good, by document, or nil.
func (c *Config) reload(offer func(offered []text), kept []text) outcome {
	defer c.deliver()
	c.reloading.Lock()
	defer c.reloading.Unlock()
	last, before := c.offered, c.state.Load().texts
	c.offered = slices.Clone(last)
	offer(c.offered)

	change, problems, err := c.take(c.offered, kept)
	o := outcome{change: change}
	now := c.state.Load()
	status := Status{At: time.Now(), Restart: now.restart, Ignored: now.ignored}
	var rejected, all []error
	for i, d := range c.documents {
		used, given, problem := now.texts[i], c.offered[i], problems[i]
		fresh := !given.same(last[i]) || kept != nil && d.feed && given.revision != 0
		if problem != nil && !used.kept.IsZero() {
			problem = fmt.Errorf("%w; in use is revision %d, kept on disk since %s", problem, used.revision, stamp(used.kept))
		}
		all = append(all, problem)
		switch {
		case problem == nil && (fresh || !used.same(before[i])):
			o.took = append(o.took, d.named(used))
		case problem != nil && fresh && !given.unanswered():
			rejected = append(rejected, problem)
		}
		if d.feed {
			status.Documents = append(status.Documents, DocumentStatus{
				Name: d.source.Name, Shared: d.shared, Revision: used.revision, Kept: used.kept, Err: problem,
			})
		}
	}
	o.rejected = errors.Join(rejected...)
	o.err = errors.Join(append(all, err)...)
	status.Err = o.err
	c.status.Store(&status)
	return o
}

// take takes all texts at once, or those that are good by themselves. It returns
// what is wrong with each document, and what is wrong with none in particular.
func (c *Config) take(offered, kept []text) (Change, []error, error) {
	problems := make([]error, len(offered))
	change, err := c.apply(offered)
	if err == nil {
		return change, problems, nil
	}
	var differing []int
	for i, used := range c.state.Load().texts {
		if !offered[i].same(used) {
			differing = append(differing, i)
		}
	}
	switch {
	case len(differing) == 0:
		return change, problems, err
	case len(differing) == 1 && kept == nil:
		problems[differing[0]] = err
		return change, problems, nil
	}
	// What is wrong with one document must not hold up another.
	for _, i := range differing {
		candidates := []text{offered[i]}
		if kept != nil && !kept[i].kept.IsZero() {
			candidates = append(candidates, kept[i])
		}
		for _, t := range candidates {
			texts := slices.Clone(c.state.Load().texts)
			texts[i] = t
			more, err := c.apply(texts)
			if err == nil {
				change.Applied = merged(change.Applied, more.Applied)
				change.Restart = more.Restart
				break
			}
			if problems[i] == nil {
				problems[i] = err
			}
		}
	}
	return change, problems, nil
}

// merged is the union of two lists, sorted.
func merged(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// apply takes the texts in use if they are good.
func (c *Config) apply(texts []text) (Change, error) {
	for {
		old := c.state.Load()
		next, err := c.next(old, texts)
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
		change := Change{Restart: next.restart}
		change.Applied = slices.DeleteFunc(different(old.entries, next.entries), func(key string) bool {
			return !old.entries[key].Hot && !next.entries[key].Hot // a cold key in a section that has come or gone
		})
		return change, nil
	}
}

// next is the state that the texts lead to.
func (c *Config) next(old *state, texts []text) (*state, error) {
	current, central, err := c.parse(old.current, texts, old.texts)
	if err != nil {
		return nil, err
	}
	next := &state{
		start: old.start, current: current, central: central, texts: texts, bindings: old.bindings,
		values: make([]any, len(old.values)), entries: map[string]entry{}, used: map[*item]bool{},
	}
	var errs []error
	restart := map[string]bool{}
	for i, b := range old.bindings {
		r, err := b.bind(next.start, current, central)
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
		ignored, err := c.strays(next)
		errs = append(errs, next.unused(), err)
		next.ignored = ignored
	}
	next.restart = slices.Sorted(maps.Keys(restart))
	return next, errors.Join(errs...)
}

// result is what a binding makes of the layers.
type result struct {
	value   any // a pointer to the struct
	entries map[string]entry
	used    map[*item]bool // of the current layers
	restart []string       // cold keys that have other values in the current layers
}

// bind lays the current layers over the struct, as a restart would, and then
// the start's for cold keys and the current ones for hot keys, for which those of
// the feed lie above. The first must be usable, or the next restart would fail;
// the second must be, for it is what the process runs with.
func (bd *binding) bind(start, current, central layers) (result, error) {
	warm := slices.Concat(current, central)
	fresh := &binder{cold: current, warm: warm, watch: bd.watch, hot: bd.allHot, strict: true, entries: map[string]entry{}, used: map[*item]bool{}}
	r := result{value: bd.lay(fresh), entries: fresh.entries, used: fresh.used}
	if err := errors.Join(fresh.errs...); err != nil {
		return result{}, err
	}
	if sameLayers(start, current) {
		return r, nil
	}
	mixed := &binder{cold: start, warm: warm, watch: bd.watch, hot: bd.allHot, entries: map[string]entry{}, used: map[*item]bool{}}
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
