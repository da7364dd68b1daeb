package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Defaults of a check.
const (
	DefaultInterval = 5 * time.Second
	DefaultTimeout  = 2 * time.Second
)

// CheckOption changes one check.
type CheckOption func(*check)

// Interval is the pause between two runs of a check, DefaultInterval unless
// given; each pause varies by a fifth, so that instances do not check in step.
// Zero and less mean the default.
func Interval(d time.Duration) CheckOption {
	return func(c *check) {
		if d > 0 {
			c.interval = d
		}
	}
}

// Timeout is how long one run may take, DefaultTimeout unless given. Zero and
// less mean the default.
func Timeout(d time.Duration) CheckOption {
	return func(c *check) {
		if d > 0 {
			c.timeout = d
		}
	}
}

// NotCritical lets the process stay ready while the check fails; /health shows
// it as degraded.
func NotCritical() CheckOption { return func(c *check) { c.critical = false } }

// check is one named check. All fields but result and running are immutable
// once it is added; those are guarded by Health.mu.
type check struct {
	fn       Func
	interval time.Duration
	timeout  time.Duration
	critical bool

	result  Result
	running bool
}

// Add adds a check under a name that must be new. Unless told otherwise it is
// critical. Once [Health.Run] has started the checks no more can be added.
func (h *Health) Add(name string, fn Func, opts ...CheckOption) error {
	if name == "" || fn == nil {
		return errors.New("add health check: it needs a name and a function")
	}
	c := &check{fn: fn, interval: DefaultInterval, timeout: DefaultTimeout, critical: true}
	for _, o := range opts {
		o(c)
	}
	c.result = Result{Name: name, Status: StatusPending, Critical: c.critical, Error: "has not run yet"}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started {
		return fmt.Errorf("add health check %q: the checks are running already; add it during setup", name)
	}
	if h.namedLocked(name) {
		return fmt.Errorf("add health check %q: the name is taken", name)
	}
	h.checks = append(h.checks, c)
	return nil
}

func (h *Health) namedLocked(name string) bool {
	for _, c := range h.checks {
		if c.result.Name == name {
			return true
		}
	}
	for _, b := range h.heartbeats {
		if b.name == name {
			return true
		}
	}
	return false
}

// Run runs the checks until ctx ends, each at its own interval, and watches the
// heartbeats.
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
				pause := c.interval - c.interval/5 + rand.N(2*c.interval/5+1)
				if !wait(ctx, pause) {
					return
				}
			}
		})
	}
	wg.Go(func() { h.watchHeartbeats(ctx) })
	wg.Wait()
}

// Check runs every check once, side by side, and returns why the process cannot
// serve yet: the failures of critical checks and overdue heartbeats, joined.
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
// check that ignores its context goes on behind the scenes; until it returns it
// counts as down and is not started again.
func (h *Health) runCheck(ctx context.Context, c *check) {
	h.mu.Lock()
	if c.running {
		h.mu.Unlock()
		return
	}
	c.running = true
	h.mu.Unlock()

	run, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		err := errors.New("the check ended its goroutine (runtime.Goexit)")
		defer func() {
			h.mu.Lock()
			c.running = false
			h.mu.Unlock()
			done <- err
		}()
		err = runProtected(run, c.fn)
	}()
	var err error
	select {
	case err = <-done:
	case <-run.Done():
		select {
		case err = <-done: // it returned at its timeout, as it should
		default:
			err = fmt.Errorf("no answer within %v", c.timeout)
		}
	}
	if err != nil && ctx.Err() != nil {
		return // told to stop, which says nothing about what is checked
	}
	h.record(c, start, err)
}

// runProtected makes a panic in a check a failure of that check.
func runProtected(ctx context.Context, fn Func) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn(ctx)
}

func (h *Health) record(c *check, start time.Time, err error) {
	now := time.Now()
	h.mu.Lock()
	before := c.result.Status
	c.result.Status, c.result.Error = StatusOK, ""
	if err != nil {
		c.result.Status, c.result.Error = StatusDown, err.Error()
	}
	c.result.Latency = now.Sub(start)
	c.result.CheckedAt = now
	after := c.result
	h.publishLocked(now)
	h.mu.Unlock()
	if h.onChange != nil && after.Status != before {
		h.onChange(after)
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
