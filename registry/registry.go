package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"plinth.internal/internal/backoff"
)

const (
	// retryBase and retryMax bound the wait between attempts.
	retryBase = 200 * time.Millisecond
	retryMax  = 5 * time.Second
	// returnSpread spreads the attempts of many processes that all see the
	// backend come back in the same moment.
	returnSpread = 500 * time.Millisecond
)

// Phase is how far an announcement has got.
type Phase string

const (
	// Off means that nothing was ever announced, or the backend is read-only.
	Off Phase = "off"
	// Registering means that no attempt to register has succeeded yet.
	Registering Phase = "registering"
	// Registered means that the instance is in the backend.
	Registered Phase = "registered"
	// Lost means that the instance was in the backend, no longer is as far as is known,
	// and is being registered again.
	Lost Phase = "lost"
	// Withdrawn means that the announcement has ended.
	Withdrawn Phase = "withdrawn"
)

// severity orders phases from good to bad.
func (p Phase) severity() int {
	switch p {
	case Lost:
		return 4
	case Registering:
		return 3
	case Registered:
		return 2
	case Withdrawn:
		return 1
	default:
		return 0
	}
}

// Status is the state of a registry's announcements.
type Status struct {
	// Kind is the kind of the backend, such as "etcd".
	Kind string
	// State is the phase of the announcement, the worst one if there are
	// several.
	State Phase
	// Since is when that announcement entered that phase; for [Off] when the
	// registry was made.
	Since time.Time
	// TTL is how long an entry outlives its process.
	TTL time.Duration
	// Override is what an operator wants of that announcement's instance; nil
	// if nothing.
	Override *Override
	// Err is why that announcement's last attempt failed, its entry was lost, or
	// is about to be because it cannot be kept alive; nil if all is well.
	Err error
}

// Registry announces instances and watches lists of them. Make one with the
// Open function of a backend; the zero value is not usable.
type Registry struct {
	// Immutable.
	driver   Driver
	ttl      time.Duration
	events   func(Event)
	disk     *disk           // nil if lists are not kept on disk
	fallback map[string]List // by service
	made     time.Time

	wg    sync.WaitGroup // the goroutines of announcements and watches
	close func() error

	mu            sync.Mutex
	closed        bool
	announcements map[string]*announcement // by instance ID; until their goroutine has ended
	watches       map[string]*watch        // by service; with at least one watcher
	ended         *Status                  // of the announcement that ended last
}

// New returns a registry on the given driver, which must not be nil, is used
// by nobody else, and is closed by [Registry.Close]. It is for backends: others use
// the Open function of a backend.
func New(driver Driver, opts ...Option) *Registry {
	o := newOptions(opts)
	r := &Registry{
		driver:        driver,
		ttl:           o.ttl,
		events:        o.events,
		disk:          newDisk(o.snapshots, driver),
		fallback:      fallbackLists(o.fallback),
		made:          time.Now(),
		announcements: make(map[string]*announcement),
		watches:       make(map[string]*watch),
	}
	r.close = sync.OnceValue(r.shutDown)
	return r
}

// Kind returns the kind of the backend, such as "etcd".
func (r *Registry) Kind() string { return r.driver.Kind() }

// Announce makes the instance known and keeps it known until ctx ends,
// [Registry.Withdraw] is called for its ID, or the registry is closed. It
// returns once the first attempt to reach the backend has ended, well or
// badly, at the latest after [OperationTimeout]: where all is well, everybody
// can see the instance when it returns. What happens later is told by
// [Registry.Status] and by events.
//
// Announcing an ID again updates the instance, to mark it [Draining] for
// example, and returns once the first attempt to do so has ended. The context
// of an update only bounds that wait: how long the instance stays announced is
// still a matter of the first call's context. What an operator wants of the
// instance, see [Override], is merged into what is written.
//
// A Weight of zero becomes [DefaultWeight], an empty State becomes [Up]. The
// error is not nil only if the instance is not valid, or announced already for
// another service; if ctx has ended already; with [ErrReadOnly]; and with
// [ErrClosed]. It is never about a backend that is down.
func (r *Registry) Announce(ctx context.Context, inst Instance) error {
	inst = inst.Clone().withDefaults()
	if _, err := Encode(inst); err != nil {
		return fmt.Errorf("announce instance %q of service %q: %w", inst.ID, inst.Service, err)
	}
	for {
		a, version, err := r.offer(ctx, inst)
		if err != nil {
			return fmt.Errorf("announce %s/%s: %w", inst.Service, inst.ID, err)
		}
		if version > 0 {
			if err := a.await(ctx, version); err != nil {
				return fmt.Errorf("announce %s/%s: %w", inst.Service, inst.ID, err)
			}
			return nil
		}
		// The ID is being withdrawn: wait for that to end, then start anew.
		select {
		case <-a.done:
		case <-ctx.Done():
		}
	}
}

// offer hands the instance to the announcement of its ID, making one if there
// is none. It returns version 0 if the announcement there is has ended.
func (r *Registry) offer(ctx context.Context, inst Instance) (*announcement, uint64, error) {
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, ErrClosed
	}
	a, ok := r.announcements[inst.ID]
	switch {
	case !ok:
		a = newAnnouncement(ctx, r, inst)
		r.announcements[inst.ID] = a
		r.wg.Go(a.run)
		return a, 1, nil
	case a.ctx.Err() != nil:
		return a, 0, nil
	case a.service != inst.Service:
		return nil, 0, fmt.Errorf("the ID is announced for service %q already", a.service)
	default:
		return a, a.offer(inst), nil
	}
}

// Withdraw ends the announcement of the given ID: it marks the entry as
// [Draining], by which everybody who watches knows that this is no crash,
// removes it from the backend and returns when that is done. An operator's
// override of the instance is deleted with it. It returns an error if that
// failed, in which case the entry expires after the TTL, or if ctx ended
// first, in which case the withdrawal goes on for at most [OperationTimeout].
// An ID that is not announced is withdrawn already: the error is nil.
func (r *Registry) Withdraw(ctx context.Context, id string) error {
	r.mu.Lock()
	a := r.announcements[id]
	r.mu.Unlock()
	if a == nil {
		return nil
	}
	a.cancel()
	select {
	case <-a.done:
		return a.withdrawal()
	case <-ctx.Done():
	}
	// Both may have been ready, and then the result counts.
	select {
	case <-a.done:
		return a.withdrawal()
	default:
		return fmt.Errorf("withdraw %s/%s: %w", a.service, id, context.Cause(ctx))
	}
}

// Status returns the state of this registry's announcements.
func (r *Registry) Status() Status {
	status := Status{State: Off, Since: r.made}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		status = *r.ended
	}
	for _, id := range sortedKeys(r.announcements) {
		s := r.announcements[id].status()
		worse := s.State.severity() - status.State.severity()
		if worse > 0 || worse == 0 && status.Err == nil && s.Err != nil {
			status = s
		}
	}
	status.Kind, status.TTL = r.driver.Kind(), r.ttl
	return status
}

// Close withdraws all announcements, ends all watches, and releases the
// backend's resources, but not the client that the backend was opened with. It
// waits for at most about [OperationTimeout] when the backend does not answer,
// and returns the errors of the withdrawals. Closing again does nothing and
// returns the same.
func (r *Registry) Close() error { return r.close() }

func (r *Registry) shutDown() error {
	r.mu.Lock()
	r.closed = true
	announcements := make([]*announcement, 0, len(r.announcements))
	for _, id := range sortedKeys(r.announcements) {
		announcements = append(announcements, r.announcements[id])
	}
	for _, w := range r.watches {
		w.cancel()
	}
	r.mu.Unlock()

	var errs []error
	for _, a := range announcements {
		a.cancel()
	}
	for _, a := range announcements {
		<-a.done
		errs = append(errs, a.withdrawal())
	}
	r.wg.Wait()
	if err := r.driver.Close(); err != nil {
		errs = append(errs, fmt.Errorf("close %s registry: %w", r.driver.Kind(), err))
	}
	return errors.Join(errs...)
}

// reachable returns a channel that is closed when the backend comes back, nil
// for one that does not tell.
func (r *Registry) reachable() <-chan struct{} {
	if d, ok := r.driver.(Reachable); ok {
		return d.Reachable()
	}
	return nil
}

// pause waits for the backoff that follows the given failed attempt. It ends
// early when ctx ends or one of the channels, which may be nil, is ready: soon
// after reachable is, at once for wake and lost. It returns true for reachable
// and wake: then the failures so far say nothing about the next attempt.
func pause(ctx context.Context, attempt int, reachable, wake, lost <-chan struct{}) (fresh bool) {
	timer := time.NewTimer(backoff.FullJitter(retryBase, retryMax, attempt))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return false
	case <-lost:
		return false
	case <-wake:
		return true
	case <-reachable:
	}
	timer.Reset(backoff.FullJitter(returnSpread, returnSpread, 0))
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-lost:
	case <-wake:
	}
	return true
}
