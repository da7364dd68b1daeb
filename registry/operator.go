package registry

import (
	"context"
	"fmt"
)

// deafAfter is how many attempts in a row to hear of overrides fail before that
// is told. An outage of the backend is told long before.
const deafAfter = 10

// wish is what an operator wants of an announced instance.
type wish struct {
	override *Override // in force; nil if none. It is never changed in place.
	stored   bool      // there is something in the backend, good or bad
	err      error     // why what is stored is not in force
	news     []Event   // for run to tell, which keeps all events in order
}

// followOverride watches what an operator wants, if the backend can tell,
// until a.ctx ends; then it closes the channel.
func (a *announcement) followOverride() (ended <-chan struct{}) {
	done := make(chan struct{})
	driver, ok := a.registry.driver.(Overrider)
	if !ok {
		close(done)
		return done
	}
	a.registry.wg.Go(func() {
		defer close(done)
		for failures := 0; a.ctx.Err() == nil; failures++ {
			reachable := a.registry.reachable()
			heard := false
			err := driver.WatchOverride(a.ctx, a.service, a.id, func(value []byte) {
				heard = true
				a.obey(value)
			})
			if heard {
				failures = 0
			}
			if failures == deafAfter && a.ctx.Err() == nil {
				a.deaf(err)
			}
			if pause(a.ctx, failures, reachable, nil, nil) {
				failures = -1
			}
		}
	})
	return done
}

// obey takes a stored override, nil for none.
func (a *announcement) obey(value []byte) {
	next := wish{stored: value != nil}
	if next.stored {
		o, err := DecodeOverride(value)
		if next.err = err; err == nil && o != (Override{}) {
			next.override = &o
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.operator
	if next.err != nil {
		next.override = last.override
	}
	a.wishLocked(next)
}

// deaf notes that the backend does not say what an operator wants although the
// instance is registered there: for lack of a permission, perhaps.
func (a *announcement) deaf(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != Registered || a.err != nil {
		return // that is told, and is why
	}
	next := a.operator
	next.err = err
	a.wishLocked(next)
}

// wishLocked replaces what the operator wants, and tells if that is news.
func (a *announcement) wishLocked(next wish) {
	last := a.operator
	if next.err != nil {
		next.err = fmt.Errorf("follow the override of %s/%s: %w", a.service, a.id, next.err)
	}
	next.news = last.news
	if !sameOverride(last.override, next.override) || !sameText(last.err, next.err) {
		next.news = append(next.news, OverrideChanged{Service: a.service, ID: a.id, Override: next.override, Err: next.err})
		a.changedLocked()
	}
	a.operator = next
}

// tellOverride tells what obey has found out.
func (a *announcement) tellOverride() {
	a.mu.Lock()
	news := a.operator.news
	a.operator.news = nil
	a.mu.Unlock()
	for _, event := range news {
		a.registry.events(event)
	}
}

// clearOverride deletes the override of an instance that is no longer there.
func (a *announcement) clearOverride(ctx context.Context) error {
	a.mu.Lock()
	stored := a.operator.stored
	a.mu.Unlock()
	driver, ok := a.registry.driver.(Overrider)
	if !ok || !stored {
		return nil
	}
	if err := driver.ClearOverride(ctx, a.service, a.id); err != nil {
		return fmt.Errorf("clear the override of %s/%s: %w", a.service, a.id, err)
	}
	return nil
}

func sameOverride(a, b *Override) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameText(a, b error) bool {
	if a == nil || b == nil {
		return (a == nil) == (b == nil)
	}
	return a.Error() == b.Error()
}
