package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"plinth.internal/internal/errtext"
)

// lastWords is how long a check that has reached its timeout may take to say
// why; its own error tells more than "no answer".
const lastWords = 50 * time.Millisecond

// run is one run of a check. A check has one at a time, whoever asks for it.
type run struct {
	begun   time.Time
	decided chan struct{} // closed when the outcome has been recorded, or never will be

	// Guarded by Health.mu.
	returned bool
	err      error // of the function, once it has returned
	overdue  bool  // nobody waits for it any more
}

// Run runs the checks until ctx ends, each at its own interval, watches the
// heartbeats, and ends what holds the process back for flapping.
func (h *Health) Run(ctx context.Context) {
	h.mu.Lock()
	h.started = true
	checks := h.checks
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range checks {
		wg.Go(func() {
			for {
				h.runCheck(ctx, c)
				pause, more := h.next(c)
				if !more || !wait(ctx, pause) {
					return
				}
			}
		})
	}
	wg.Go(func() { h.watch(ctx) })
	wg.Wait()
}

// next is the pause before the next run of a check; more is false when there is
// none.
func (h *Health) next(c *check) (pause time.Duration, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pause = c.interval
	if c.undecidedLocked() {
		pause = min(pause, ConfirmInterval)
	}
	return pause - pause/5 + rand.N(2*pause/5+1), !c.doneLocked()
}

// doneLocked reports whether the check is for the start only and has passed.
func (c *check) doneLocked() bool { return c.startupOnly && c.result.Status == StatusOK }

// Check runs every check once, side by side, and returns why the process cannot
// serve yet: the failures of critical checks and overdue heartbeats, joined. It
// waits for a check that runs already instead of running it twice.
func (h *Health) Check(ctx context.Context) error {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range checks {
		wg.Go(func() { h.runCheck(ctx, c) })
	}
	wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blockedLocked(time.Now())
}

// runCheck runs a check once and waits for it no longer than its timeout. A
// check that ignores its context goes on behind the scenes; until it returns
// each of its turns counts as a failure, and it is not started again.
func (h *Health) runCheck(ctx context.Context, c *check) {
	h.mu.Lock()
	if c.doneLocked() {
		h.mu.Unlock()
		return
	}
	if r := c.current; r != nil && r.overdue {
		h.recordAndUnlock(c, r.begun, time.Now(), noAnswer(c))
		return
	} else if r != nil {
		h.mu.Unlock()
		select {
		case <-r.decided:
		case <-ctx.Done():
		}
		return
	}
	r := &run{begun: time.Now(), decided: make(chan struct{})}
	c.current = r
	h.mu.Unlock()
	defer close(r.decided)

	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	returned := make(chan struct{})
	go func() {
		err := errors.New("the check ended its goroutine (runtime.Goexit)")
		defer func() {
			h.mu.Lock()
			r.returned, r.err = true, err
			if r.overdue {
				c.current = nil
			}
			h.mu.Unlock()
			close(returned)
		}()
		err = runProtected(limited, c.fn)
	}()
	select {
	case <-returned:
	case <-limited.Done():
	}
	ended := time.Now()
	select {
	case <-returned:
	case <-time.After(lastWords):
	}
	h.mu.Lock()
	err := r.err
	switch {
	case !r.returned:
		r.overdue = true
		err = noAnswer(c)
	case errors.Is(err, context.DeadlineExceeded) && limited.Err() != nil:
		err = fmt.Errorf("no answer within %v: %w", c.timeout, err)
		fallthrough
	default:
		c.current = nil
	}
	if err != nil && ctx.Err() != nil {
		h.mu.Unlock()
		return // told to stop, which says nothing about what is checked
	}
	h.recordAndUnlock(c, r.begun, ended, err)
}

func noAnswer(c *check) error { return fmt.Errorf("no answer within %v", c.timeout) }

// runProtected makes a panic in a check a failure of that check, and so an error that
// panics in whoever looks at it.
func runProtected(ctx context.Context, fn Func) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("panic: " + errtext.Value(p))
		}
	}()
	err = fn(ctx)
	if broken := errtext.Check(err); broken != nil {
		return broken
	}
	return err
}

// recordAndUnlock takes over the outcome of a run and tells what it has changed;
// it is called with the lock held.
func (h *Health) recordAndUnlock(c *check, begun, ended time.Time, err error) {
	var changed []Result
	before := c.result.Status
	c.recordLocked(begun, ended, err)
	if c.result.Status != before {
		changed = append(changed, c.result)
	}
	changed = append(changed, h.publishLocked(time.Now())...)
	h.mu.Unlock()
	h.tell(changed)
}

// tell calls what [OnChange] was given, which must not happen under the lock.
func (h *Health) tell(changed []Result) {
	if h.onChange == nil {
		return
	}
	for _, r := range changed {
		h.onChange(r)
	}
}

// tick bounds how late an overdue heartbeat, or the end of a hold, is noticed.
const tick = 250 * time.Millisecond

// watch makes known what happens by the passing of time alone.
func (h *Health) watch(ctx context.Context) {
	for wait(ctx, tick) {
		now := time.Now()
		h.mu.Lock()
		changed, stuck := h.overdueLocked(now)
		changed = append(changed, h.publishLocked(now)...)
		h.mu.Unlock()
		h.tell(changed)
		h.examine(now, stuck)
	}
}

// wait pauses for d and reports false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
