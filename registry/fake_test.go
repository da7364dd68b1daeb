package registry

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errDown = errors.New("backend is down")

// fakeDriver is a backend whose every answer is decided by the test.
type fakeDriver struct {
	mu        sync.Mutex
	down      error
	block     bool        // operations wait for the end of their context
	registers []time.Time // of every attempt
	updates   []Instance  // that have arrived
	current   *fakeRegistration
	withdrawn int
	watches   []*fakeWatch // every watch there was
	closed    int
	up        chan struct{}
}

func newFake() *fakeDriver { return &fakeDriver{up: make(chan struct{})} }

func (d *fakeDriver) Kind() string { return "fake" }

func (d *fakeDriver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *fakeDriver) Reachable() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.up
}

// set changes whether the backend works.
func (d *fakeDriver) set(down error, block bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.block = down, block
}

// comeBack makes the backend work and tells.
func (d *fakeDriver) comeBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.block = nil, false
	close(d.up)
	d.up = make(chan struct{})
}

func (d *fakeDriver) attempts() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]time.Time(nil), d.registers...)
}

func (d *fakeDriver) arrived() []Instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Instance(nil), d.updates...)
}

func (d *fakeDriver) answer(ctx context.Context) error {
	d.mu.Lock()
	down, block := d.down, d.block
	d.mu.Unlock()
	if block {
		<-ctx.Done()
		return ctx.Err()
	}
	return down
}

func (d *fakeDriver) Register(ctx context.Context, inst Instance, _ time.Duration) (Registration, error) {
	d.mu.Lock()
	d.registers = append(d.registers, time.Now())
	d.mu.Unlock()
	if err := d.answer(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.updates = append(d.updates, inst)
	d.current = &fakeRegistration{driver: d, lost: make(chan struct{})}
	return d.current, nil
}

type fakeRegistration struct {
	Doubts

	driver *fakeDriver
	lost   chan struct{}
}

// doubt says whether the current entry is kept alive.
func (d *fakeDriver) doubt(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current.SetDoubt(err)
}

func (r *fakeRegistration) Update(ctx context.Context, inst Instance) error {
	if err := r.driver.answer(ctx); err != nil {
		return err
	}
	r.driver.mu.Lock()
	defer r.driver.mu.Unlock()
	r.driver.updates = append(r.driver.updates, inst)
	return nil
}

func (r *fakeRegistration) Lost() <-chan struct{} { return r.lost }

func (r *fakeRegistration) Err() error { return errors.New("expired") }

func (r *fakeRegistration) Withdraw(ctx context.Context) error {
	r.driver.mu.Lock()
	r.driver.withdrawn++
	r.driver.mu.Unlock()
	return r.driver.answer(ctx)
}

// lose takes the current entry away.
func (d *fakeDriver) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.current.lost)
}

// fakeWatch is one call of Watch.
type fakeWatch struct {
	emit func(List)
	fail chan error
	done chan struct{}
}

func (d *fakeDriver) Watch(ctx context.Context, _ string, emit func(List)) error {
	w := &fakeWatch{emit: emit, fail: make(chan error), done: make(chan struct{})}
	defer close(w.done)
	d.mu.Lock()
	d.watches = append(d.watches, w)
	down := d.down
	d.mu.Unlock()
	if down != nil {
		return down
	}
	select {
	case err := <-w.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// overridden is a fakeDriver with overrides.
type overridden struct {
	*fakeDriver

	values  chan []byte // each is emitted
	mu      sync.Mutex
	refuse  error
	cleared int
}

func (d *overridden) WatchOverride(ctx context.Context, _, _ string, emit func([]byte)) error {
	d.mu.Lock()
	refuse := d.refuse
	d.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	for {
		select {
		case value := <-d.values:
			emit(value)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *overridden) ClearOverride(context.Context, string, string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cleared++
	return d.refuse
}

// watch returns the latest call of Watch and how many there were.
func (d *fakeDriver) watch() (*fakeWatch, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.watches) == 0 {
		return nil, 0
	}
	return d.watches[len(d.watches)-1], len(d.watches)
}

// spy collects events.
type spy struct {
	mu     sync.Mutex
	events []Event
}

func (s *spy) add(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (s *spy) all() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.events...)
}

// advance lets virtual time pass; it is for tests in a synctest bubble only.
func advance(d time.Duration) { <-time.After(d) }
