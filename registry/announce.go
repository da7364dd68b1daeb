package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// announcement is one instance that is kept in the backend. Its goroutine, run,
// owns the registration; others only tell it what they want.
type announcement struct {
	// Immutable.
	registry *Registry
	service  string
	id       string
	ctx      context.Context // ends when the instance is to be withdrawn
	cancel   context.CancelFunc
	wake     chan struct{} // capacity 1: want changed
	done     chan struct{} // closed when the instance is withdrawn

	mu       sync.Mutex
	want     Instance
	operator wish          // what is to be done with want
	version  uint64        // of want and operator, counted from 1
	tried    uint64        // the latest version that an attempt was made for
	progress chan struct{} // closed and replaced after each attempt
	refusal  error         // of a backend that takes no announcements
	phase    Phase
	since    time.Time
	err      error
}

func newAnnouncement(ctx context.Context, r *Registry, inst Instance) *announcement {
	ctx, cancel := context.WithCancel(ctx)
	return &announcement{
		registry: r,
		service:  inst.Service,
		id:       inst.ID,
		ctx:      ctx,
		cancel:   cancel,
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		want:     inst,
		version:  1,
		progress: make(chan struct{}),
		phase:    Registering,
		since:    time.Now(),
	}
}

// offer replaces what is wanted and returns its version.
func (a *announcement) offer(inst Instance) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.want = inst
	return a.changedLocked()
}

// changedLocked counts a new version and lets run look at it.
func (a *announcement) changedLocked() uint64 {
	a.version++
	signal(a.wake)
	return a.version
}

// await waits for the first attempt with the given version or a later one. It
// returns an error only for a backend that cannot be written.
func (a *announcement) await(ctx context.Context, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, OperationTimeout)
	defer cancel()
	for {
		a.mu.Lock()
		tried, progress, refusal := a.tried, a.progress, a.refusal
		a.mu.Unlock()
		if refusal != nil || tried >= version {
			return refusal
		}
		select {
		case <-progress:
		case <-a.done:
			version = 0 // what there was to try has been tried
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *announcement) run() {
	defer close(a.done)
	defer a.cancel()
	following := a.followOverride()
	var (
		reg      Registration
		entry    Instance  // in the backend, as far as is known
		have     uint64    // its version
		born     time.Time // of reg
		failures int       // attempts in a row
		losses   int       // entries in a row that did not live for a TTL
	)
	for {
		// Ask before the attempt, so that no return of the backend is missed.
		reachable := a.registry.reachable()
		want, version := a.wanted()
		a.tellOverride()
		var err error
		switch {
		case reg == nil:
			if reg, err = a.register(want); err == nil {
				born = time.Now()
			}
		case version != have:
			err = a.update(reg, want)
		}
		if errors.Is(err, ErrReadOnly) {
			a.cancel()
			<-following
			a.refuse(err)
			return
		}
		if a.ctx.Err() != nil {
			break
		}
		doubted, doubt := a.doubt(reg)
		if err == nil {
			a.attempted(version, reg != nil, doubt)
		} else {
			a.attempted(version, reg != nil, err)
		}

		lost := lostOf(reg)
		switch {
		case err == nil:
			entry, have, failures = want, version, 0
			select {
			case <-a.ctx.Done():
			case <-a.wake:
			case <-lost:
			case <-doubted:
			}
		case pause(a.ctx, failures, reachable, a.wake, lost):
			failures = 0
		default:
			failures++
		}
		if closed(lost) && a.ctx.Err() == nil {
			a.note(Lost, fmt.Errorf("keep %s/%s: %w", a.service, a.id, reg.Err()))
			// Somebody who keeps taking the entry away must not make us a
			// storm of writes; one who does it once must not make us wait.
			if time.Since(born) >= a.registry.ttl {
				losses = 0
			}
			reg = nil
			pause(a.ctx, losses, nil, a.wake, nil)
			losses++
		}
		if a.ctx.Err() != nil {
			break
		}
	}
	<-following
	var err error
	if reg != nil {
		err = a.release(reg, entry)
	}
	a.tellOverride()
	a.finish(err)
}

// lostOf is the channel that tells that a registration is lost; nil while there
// is none.
func lostOf(reg Registration) <-chan struct{} {
	if reg == nil {
		return nil
	}
	return reg.Lost()
}

// doubt is why a registration is not kept alive, nil where it is or does not tell.
func (a *announcement) doubt(reg Registration) (changed <-chan struct{}, err error) {
	d, ok := reg.(Doubtful)
	if !ok {
		return nil, nil
	}
	if changed, err = d.Doubt(); err != nil {
		err = fmt.Errorf("keep %s/%s: %w", a.service, a.id, err)
	}
	return changed, err
}

// closed reports whether the channel, which may be nil, is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wanted returns the instance as it is to be in the backend.
func (a *announcement) wanted() (Instance, uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.operator.override; o != nil {
		return o.Apply(a.want), a.version
	}
	return a.want, a.version
}

func (a *announcement) register(inst Instance) (Registration, error) {
	ctx, cancel := context.WithTimeout(a.ctx, OperationTimeout)
	defer cancel()
	reg, err := a.registry.driver.Register(ctx, inst, a.registry.ttl)
	if err != nil {
		return nil, fmt.Errorf("register %s/%s: %w", a.service, a.id, err)
	}
	return reg, nil
}

func (a *announcement) update(reg Registration, inst Instance) error {
	ctx, cancel := context.WithTimeout(a.ctx, OperationTimeout)
	defer cancel()
	if err := reg.Update(ctx, inst); err != nil {
		return fmt.Errorf("update %s/%s: %w", a.service, a.id, err)
	}
	return nil
}

// release takes the entry out of the backend although a.ctx has ended.
func (a *announcement) release(reg Registration, entry Instance) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), OperationTimeout)
	defer cancel()
	if entry.State != Draining {
		// Watchers can tell a withdrawal from a crash only by this mark. If it
		// cannot be made, they find out by asking the instance.
		entry.State = Draining
		_ = reg.Update(ctx, entry)
	}
	if err := reg.Withdraw(ctx); err != nil {
		return fmt.Errorf("withdraw %s/%s: %w", a.service, a.id, err)
	}
	return a.clearOverride(ctx)
}

// attempted records the outcome of an attempt and lets await return.
func (a *announcement) attempted(version uint64, registered bool, err error) {
	a.mu.Lock()
	phase := a.phase
	a.mu.Unlock()
	if registered {
		phase = Registered
	}
	a.note(phase, err)

	a.mu.Lock()
	defer a.mu.Unlock()
	a.tried = version
	close(a.progress)
	a.progress = make(chan struct{})
}

// note changes the phase, and tells if that, or success and failure, is news.
func (a *announcement) note(to Phase, err error) {
	a.mu.Lock()
	from, before := a.phase, a.err
	if from != to {
		a.since = time.Now()
	}
	a.phase, a.err = to, err
	a.mu.Unlock()
	if from != to || (before == nil) != (err == nil) {
		a.registry.events(AnnouncementChanged{Service: a.service, ID: a.id, From: from, To: to, Err: err})
	}
}

// finish records that the instance is withdrawn, and with what error.
func (a *announcement) finish(err error) {
	a.note(Withdrawn, err)
	status := a.status()
	r := a.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = &status
	delete(r.announcements, a.id)
}

// refuse forgets the announcement, because the backend takes none. Whoever
// announced is told by await.
func (a *announcement) refuse(err error) {
	r := a.registry
	r.mu.Lock()
	delete(r.announcements, a.id)
	r.mu.Unlock()

	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusal = err
	close(a.progress)
	a.progress = make(chan struct{})
}

func (a *announcement) status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Status{State: a.phase, Since: a.since, Override: a.operator.override, Err: a.err}
}

// withdrawal returns the error of the withdrawal; call it when done is closed.
func (a *announcement) withdrawal() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}
