package framework

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"plinth.internal/health"
	"plinth.internal/registry"
)

// Bounds of steps that are not configured. They keep one step from using up the
// time of all.
const (
	announceTimeout = 3 * time.Second // for the draining mark and the withdrawal, each
	stopTimeout     = 10 * time.Second
	flushTimeout    = 5 * time.Second
	checkPause      = 500 * time.Millisecond
)

// announces reports whether there is a registry to announce the instance to.
func (a *App) announces() bool {
	return !oneOf(a.registry.Kind(), kindDNS, kindStatic) && len(a.server.Endpoints()) > 0
}

// awaitChecks waits until every critical check has passed once.
func (a *App) awaitChecks(ctx context.Context) error {
	told := ""
	for {
		err := a.health.Check(ctx)
		if err == nil {
			return nil
		}
		if err.Error() != told {
			told = err.Error()
			a.emit(Waiting{Err: err})
		}
		if !pause(ctx, checkPause) {
			return fmt.Errorf("wait for the checks: %w", err)
		}
	}
}

// announceFirst is the start with registry.required: the service is ready once
// it is registered.
func (a *App) announceFirst(ctx context.Context) error {
	if err := a.registry.Announce(context.WithoutCancel(ctx), a.Instance()); err != nil {
		return fmt.Errorf("announce %s: %w", a.name, err)
	}
	told := ""
	for a.registry.Status().State != registry.Registered {
		err := fmt.Errorf("registry.required is set and the registry does not answer: %w", a.registry.Status().Err)
		if err.Error() != told {
			told = err.Error()
			a.emit(Waiting{Err: err})
		}
		if !pause(ctx, checkPause) {
			return err
		}
	}
	a.health.SetPhase(health.Serving)
	return nil
}

// stop goes through the phases of the shutdown and tells of each. endBackground
// ends the framework's and the service's goroutines.
func (a *App) stop(ctx context.Context, tell func(Event), endBackground func()) error {
	var errs []error
	try := func(name string, limit time.Duration, fn func(context.Context) error) error {
		start := time.Now()
		err := bounded(ctx, limit, fn)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		tell(PhaseEnded{Phase: name, Took: time.Since(start), Err: err})
		return err
	}
	phase := func(name string, limit time.Duration, fn func(context.Context) error) {
		errs = append(errs, try(name, limit, fn))
	}
	drain := a.settings.Server.Drain
	served := a.health.Phase() == health.Serving
	announced := served && a.announces()
	a.health.SetPhase(health.Draining)
	// A registry that does not hear of the stop makes it no failure: callers
	// learn the same from gRPC health and from the closed port, and the entry
	// ends with its lease.
	if announced {
		_ = try("mark draining", announceTimeout, a.markDraining)
	}
	if served && drain.Delay > 0 {
		phase("accept until quiet", drain.Delay+time.Second, func(ctx context.Context) error {
			a.awaitQuiet(ctx, drain.Delay, announced)
			return nil
		})
	}
	if announced {
		_ = try("withdraw", announceTimeout, func(ctx context.Context) error {
			return a.registry.Withdraw(ctx, a.Instance().ID)
		})
	}
	phase("finish calls", drain.Timeout+stopTimeout, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, drain.Timeout,
			fmt.Errorf("they took longer than server.drain.timeout, %v", drain.Timeout))
		defer cancel()
		return a.server.Stop(ctx)
	})
	a.health.SetPhase(health.Stopped)
	phase("end goroutines", stopTimeout, func(context.Context) error {
		endBackground()
		return a.group.wait()
	})
	a.mu.Lock()
	stops := a.stops
	a.mu.Unlock()
	for _, s := range slices.Backward(stops) {
		phase("on stop: "+s.name, stopTimeout, s.fn)
	}
	phase("close clients", stopTimeout, a.closeParts)
	return errors.Join(errs...)
}

// bounded runs one step, protected against panics, and leaves it behind when it
// outlasts its limit.
func bounded(ctx context.Context, limit time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- protect(func() error { return fn(ctx) }) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // it ended at its limit, as it should
		return err
	case <-time.After(100 * time.Millisecond):
		return fmt.Errorf("it did not end within %v and was left behind", limit)
	}
}

// markDraining tells the registry's watchers to send no more calls.
func (a *App) markDraining(ctx context.Context) error {
	a.mu.Lock()
	a.instance.State = registry.Draining
	a.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- a.registry.Announce(context.WithoutCancel(ctx), a.Instance()) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitQuiet waits for delay, or until no call has come for half of it. An
// announced instance counts from now, because its callers must hear of the
// draining mark first; one that nobody looks up may have been quiet before.
func (a *App) awaitQuiet(ctx context.Context, delay time.Duration, announced bool) {
	begun := time.Now()
	for {
		last := a.server.LastCall()
		if announced && last.Before(begun) {
			last = begun
		}
		rest := min(delay-time.Since(begun), delay/2-time.Since(last))
		if rest <= 0 || !pause(ctx, rest) {
			return
		}
	}
}

// closeParts closes what New opened, in reverse.
func (a *App) closeParts(context.Context) error {
	var errs []error
	if a.client != nil {
		errs = append(errs, a.client.Close())
	}
	if a.registry != nil && a.ownRegistry {
		errs = append(errs, a.registry.Close())
	}
	if a.backend != nil {
		errs = append(errs, a.backend.Close())
	}
	return errors.Join(errs...)
}

// flush sends what telemetry still holds, after everything that could add to
// it, and ends the admin listener, which showed the stop until now.
func (a *App) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	err := a.server.Close()
	if spans := a.tracer.Shutdown(ctx); spans != nil {
		a.emit(SpansLost{spans})
	}
	_ = a.log.Logger().Sync() // standard error cannot be synced everywhere
	return err
}

// pause waits for d and reports false where ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
