package framework

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"plinth.internal/health"
	"plinth.internal/registry"
	"plinth.internal/server"
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

// takesCalls reports whether there is a listener that calls can come by.
func (a *App) takesCalls() bool {
	endpoints := a.server.Endpoints()
	return endpoints[server.GRPC] != "" || endpoints[server.HTTP] != ""
}

// stopCame is the error of a start that is over because the stop began during it,
// nil before that.
func stopCame(run context.Context) error {
	if run.Err() == nil {
		return nil
	}
	return fmt.Errorf("the stop came first: %w", context.Cause(run))
}

// awaitChecks waits until every critical check has passed once. A stop that came
// meanwhile is an error, whatever the checks say.
func (a *App) awaitChecks(ctx context.Context) error {
	told := ""
	for {
		err := a.health.Check(ctx)
		if err == nil {
			return stopCame(ctx)
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

// enter tells the registry of the instance, which is kept there until ctx ends or
// it is withdrawn. Once run has ended it does nothing: the stop, which begins
// after that, then knows for certain whether there is something to withdraw.
func (a *App) enter(run, ctx context.Context) error {
	a.mu.Lock()
	if err := stopCame(run); err != nil {
		a.mu.Unlock()
		return err
	}
	tried := make(chan struct{})
	defer close(tried)
	a.entering = tried
	inst := a.instance.Clone()
	a.mu.Unlock()
	if err := a.registry.Announce(ctx, inst); err != nil {
		return fmt.Errorf("announce %s: %w", a.name, err)
	}
	return nil
}

// announceFirst is the start with registry.required: the service is ready once
// it is registered.
func (a *App) announceFirst(ctx context.Context) error {
	a.timeline.next(phaseAnnounce)
	if err := a.enter(ctx, context.WithoutCancel(ctx)); err != nil {
		return err
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
	if err := stopCame(ctx); err != nil {
		return err
	}
	a.timeline.next(phaseServe)
	a.health.SetPhase(health.Serving)
	return nil
}

// announce announces the instance while it serves already: a registry that does
// not answer must not hold up a service that can be reached. The phase is over
// when the instance is registered, however long that takes.
func (a *App) announce(run, background context.Context, stop context.CancelCauseFunc) {
	p := a.timeline.begin(StageStart, phaseAnnounce)
	var err error
	defer func() {
		<-a.ready // it is told of after the phases before it
		a.emit(a.timeline.end(p, err, nil))
	}()
	if err = a.enter(run, background); err != nil {
		stop(err) // says nothing new where it is the stop that kept it out
		return
	}
	for status := a.registry.Status(); status.State != registry.Registered; status = a.registry.Status() {
		a.timeline.note(p, status.Err)
		if !pause(run, checkPause) {
			err = fmt.Errorf("the stop came before it was registered: %w", cmp.Or(status.Err, context.Cause(run)))
			return
		}
	}
}

// stopping is one stop: it goes through its phases and tells of each.
type stopping struct {
	app  *App
	ctx  context.Context
	tell func(Event)
	errs []error
}

// try goes through a phase. One that takes too long is left behind, and what the
// process does then is kept.
func (s *stopping) try(name string, limit time.Duration, fn func(context.Context) error) error {
	p := s.app.timeline.begin(StageStop, name)
	return s.end(p, s.run(p, limit, fn), nil)
}

// run runs a phase under its name, which a dump shows.
func (s *stopping) run(p *phase, limit time.Duration, fn func(context.Context) error) error {
	err := bounded(s.ctx, limit, func(ctx context.Context) error { return labelled(ctx, p.name, fn) })
	if overrun, ok := errors.AsType[*overrunError](err); ok {
		s.dump(p.name, s.app.box.capture(p.name+": "+overrun.Error()))
	}
	return err
}

// end ends a phase; late are the calls that it has measured, nil for none.
func (s *stopping) end(p *phase, err error, late *LateCalls) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	s.tell(s.app.timeline.end(p, err, late))
	return err
}

// phase is try, whose error makes the stop one that went wrong.
func (s *stopping) phase(name string, limit time.Duration, fn func(context.Context) error) {
	s.errs = append(s.errs, s.try(name, limit, fn))
}

// dump keeps what was captured, if anything.
func (s *stopping) dump(phase string, e *evidence) {
	if e != nil {
		s.tell(s.app.box.keep(s.ctx, phase, e))
	}
}

// stop goes through the phases of the shutdown. cancel tells the framework's and
// the service's goroutines to end, cancelJobs the jobs; wait waits for those of
// the framework.
func (a *App) stop(ctx context.Context, tell func(Event), cancelJobs, cancel, wait func()) error {
	s := &stopping{app: a, ctx: ctx, tell: tell}
	drain := a.settings.Server.Drain
	served := a.health.Phase() == health.Serving
	a.mu.Lock()
	announced := a.entering != nil // a start that was ended may not have come that far
	a.mu.Unlock()
	if served {
		a.box.start()
		defer a.box.stop()
	}
	a.health.SetPhase(health.Draining)
	handedOver := s.handOver(cancelJobs)
	// A registry that does not hear of the stop makes it no failure: callers
	// learn the same from gRPC health and from the closed port, and the entry
	// ends with its lease.
	if announced && served {
		_ = s.try("mark draining", announceTimeout, a.markDraining)
	}
	if served {
		a.late.mark()
		s.acceptUntilQuiet(drain.Delay)
	}
	if announced {
		_ = s.try("withdraw", announceTimeout, func(ctx context.Context) error {
			defer a.late.withdraw()
			return a.registry.Withdraw(ctx, a.Instance().ID)
		})
	}
	s.finishCalls(drain.Timeout)
	a.health.SetPhase(health.Stopped)
	s.errs = append(s.errs, handedOver())
	s.phase("end goroutines", stopTimeout, func(context.Context) error {
		cancel()
		err := a.group.wait(stopTimeout)
		wait()
		return err
	})
	a.mu.Lock()
	stops := a.stops
	a.mu.Unlock()
	for _, step := range slices.Backward(stops) {
		s.phase("on stop: "+step.name, stopTimeout, step.fn)
	}
	s.phase("close clients", stopTimeout, a.closeParts)
	return errors.Join(errors.Join(s.errs...), a.noted())
}

// handOver ends the jobs beside the phases of the drain, so that another instance
// goes on with them at once and a slow one does not hold up the drain. It returns
// a function that waits for the end.
func (s *stopping) handOver(cancelJobs func()) (wait func() error) {
	cancelJobs()
	if !s.app.jobs.any() {
		return func() error { return nil }
	}
	p := s.app.timeline.begin(StageStop, "hand over jobs")
	done := make(chan error, 1)
	go func() {
		err := s.run(p, stopTimeout, func(context.Context) error { return s.app.jobs.handOver() })
		done <- s.end(p, err, nil)
	}()
	return func() error { return <-done }
}

// acceptUntilQuiet goes on accepting calls for a while, and tells how many came.
func (s *stopping) acceptUntilQuiet(delay time.Duration) {
	if delay <= 0 || !s.app.takesCalls() {
		return
	}
	p := s.app.timeline.begin(StageStop, "accept until quiet")
	err := s.run(p, delay+time.Second, func(ctx context.Context) error {
		s.app.awaitQuiet(ctx, delay)
		return nil
	})
	late, _ := s.app.late.calls()
	s.errs = append(s.errs, s.end(p, err, late))
}

// finishCalls lets calls that have begun finish. Those that take too long are cut
// off; what they do at that moment is kept.
func (s *stopping) finishCalls(timeout time.Duration) {
	p := s.app.timeline.begin(StageStop, "finish calls")
	var cut *evidence
	err := s.run(p, timeout+stopTimeout, func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		captured := make(chan struct{})
		timer := time.AfterFunc(timeout, func() {
			defer close(captured)
			slow := fmt.Errorf("they took longer than server.drain.timeout, %v", timeout)
			cut = s.app.box.capture(p.name + ": " + slow.Error())
			cancel(slow)
		})
		err := s.app.server.Stop(ctx)
		if !timer.Stop() {
			<-captured
		}
		return err
	})
	if _, behind := errors.AsType[*overrunError](err); !behind && err != nil {
		s.dump(p.name, cut)
	}
	_, late := s.app.late.calls()
	s.errs = append(s.errs, s.end(p, err, late))
}

// overrunError is that of a step that did not end when it should have.
type overrunError struct{ error }

func (e *overrunError) Unwrap() error { return e.error }

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
		return &overrunError{fmt.Errorf("it did not end within %v and was left behind", limit)}
	}
}

// markDraining tells the registry's watchers to send no more calls.
func (a *App) markDraining(ctx context.Context) error {
	a.mu.Lock()
	a.instance.State = registry.Draining
	entering := a.entering
	a.mu.Unlock()
	select { // two announcements beside one another could change places
	case <-entering:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() { done <- a.registry.Announce(context.WithoutCancel(ctx), a.Instance()) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitQuiet waits for delay, or until no call has come for half of it, counted
// from now: callers, or the balancer in front of them, must hear of the draining
// mark first, however quiet it was before.
func (a *App) awaitQuiet(ctx context.Context, delay time.Duration) {
	begun := time.Now()
	for {
		last := a.server.LastCall()
		if last.Before(begun) {
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
	errs := []error{a.jobs.close()}
	if a.client != nil {
		errs = append(errs, a.client.Close())
	}
	if a.registry != nil && a.ownRegistry {
		errs = append(errs, a.registry.Close())
	}
	errs = append(errs, a.closeFeed())
	if a.backend != nil {
		errs = append(errs, a.backend.Close())
	}
	return errors.Join(errs...)
}

// flush sends what telemetry still holds, after everything that could add to
// it, and ends the admin listener, which showed the stop until now.
func (a *App) flush(ctx context.Context, tell func(Event)) error {
	p := a.timeline.begin(StageStop, "flush telemetry")
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	err := a.server.Close()
	if spans := a.tracer.Shutdown(ctx); spans != nil {
		a.emit(SpansLost{spans})
	}
	tell(a.timeline.end(p, err, nil))
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
