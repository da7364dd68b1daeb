package middleware

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// ErrAnswered is how an HTTP attempt ends that is not needed, because another
// attempt of the same call has handed its response to the caller; see
// [Call.Fork]. Compare with errors.Is. Its code is CANCELED: it says nothing about
// the instance.
var ErrAnswered = fmt.Errorf("make HTTP request: another attempt of the call has been answered: %w", context.Canceled)

// race is between the attempts of one call that run at the same time: the first
// one with a response for the caller wins.
type race struct {
	mu      sync.Mutex
	winner  *httpClientCall
	running map[*httpClientCall]context.CancelFunc
}

// enter notes an attempt that begins, and reports whether it is still needed.
func (r *race) enter(c *httpClientCall, cancel context.CancelFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner != nil {
		return false
	}
	r.running[c] = cancel
	return true
}

// leave notes the end of an attempt, and reports whether another one has won.
func (r *race) leave(c *httpClientCall) (lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, c)
	return r.winner != nil && r.winner != c
}

// won reports whether c is the first one with a response, and if so ends the
// others.
func (r *race) won(c *httpClientCall) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner != nil {
		return r.winner == c
	}
	r.winner = c
	for other, cancel := range r.running {
		if other != c {
			cancel()
		}
	}
	return true
}

// answered reports whether an attempt has won.
func (r *race) answered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.winner != nil
}

// raced makes an attempt beside others.
func (c *httpClientCall) raced(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.race.enter(c, cancel) {
		return ErrAnswered
	}
	err := c.attempt(ctx)
	if c.race.leave(c) {
		c.failed = nil
		return ErrAnswered
	}
	return err
}

// Answered reports whether an attempt with a forked HTTP call is of no use any
// more, because another one has handed its response to the caller; it would end
// with [ErrAnswered]. It is always false over other transports, where an attempt
// has ended when it is answered. It may be called while attempts run.
func (c *Call) Answered() bool {
	h, ok := c.transport.(*httpClientCall)
	return ok && h.race != nil && h.race.answered()
}

func (c *httpClientCall) fork() (*Call, bool) {
	if !c.replayable() || c.delivered == nil {
		return nil, false
	}
	if c.race == nil {
		c.race = &race{running: make(map[*httpClientCall]context.CancelFunc, 2)}
	}
	f := &httpClientCall{base: c.base, request: c.request, delivered: c.delivered, race: c.race, parent: c}
	f.Call = c.Call
	f.Attempts = 0
	f.transport = f
	f.headers = slices.Clone(c.headers)
	return &f.Call, true
}

func (c *httpClientCall) adopt(fork *Call) {
	f, ok := fork.transport.(*httpClientCall)
	if !ok || f.parent != c {
		return
	}
	c.adopted(fork)
	c.last, c.failed, c.delivered = f.last, f.failed, f.delivered
}
