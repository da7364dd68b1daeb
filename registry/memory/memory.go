// Package memory is a registry inside one process, for tests, examples and
// programs that have all their services in one process. A [Store] is the
// backend; any number of registries share it.
//
// Values are encoded and decoded as in a real backend, so a test sees the same
// lists and the same refusals as with etcd. An entry does not expire by
// itself, because it cannot outlive the process. Nothing here reads a clock or
// starts a goroutine of its own; everything works inside a synctest bubble. All methods may
// be called concurrently.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"plinth.internal/registry"
)

// Open returns a registry on the store, which may be shared with others.
func Open(store *Store, opts ...registry.Option) *registry.Registry {
	return registry.New(driver{store}, opts...)
}

// Store holds the entries of all services. Make one with [NewStore].
type Store struct {
	mu        sync.Mutex
	down      error
	services  map[string]*service
	overrides map[string][]byte // by service/ID
	revision  int64
	changed   chan struct{} // closed and replaced at each change of anything
	up        chan struct{} // closed and replaced each time the store comes back
}

type service struct {
	entries  map[string]entry // by instance ID
	revision int64            // of the latest change
	// withdrawn are the IDs whose entries were deleted on purpose. It is
	// emptied when it has become long: whoever has not looked by then finds out
	// by asking the instance.
	withdrawn map[string]bool
}

// maxWithdrawn is how many withdrawn IDs a service remembers.
const maxWithdrawn = 1000

type entry struct {
	value []byte
	owner *registration // nil for what Put wrote
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		services:  make(map[string]*service),
		overrides: make(map[string][]byte),
		changed:   make(chan struct{}),
		up:        make(chan struct{}),
	}
}

// SetDown makes the store unavailable: every operation fails and every watch
// breaks with the given error, while the entries stay. Nil makes it available
// again.
func (s *Store) SetDown(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil && err == nil {
		close(s.up)
		s.up = make(chan struct{})
	}
	s.down = err
	s.announceLocked()
}

// Expire removes the entries with the given instance ID, of whatever service,
// as if their lease had expired, and reports whether there was one. It works
// also while the store is unavailable.
func (s *Store) Expire(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for name, svc := range s.services {
		if e, ok := svc.entries[id]; ok {
			found = true
			s.putLocked(name, id, nil)
			e.owner.lose(errors.New("entry expired"))
		}
	}
	return found
}

// Put writes a value as another program would, valid or not. Nil removes the
// entry. If a registry announced an instance under that ID, it loses the entry
// and puts its own again.
func (s *Store) Put(service, id string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := s.ownerLocked(service, id)
	if value == nil {
		s.putLocked(service, id, nil)
	} else {
		s.putLocked(service, id, &entry{value: slices.Clone(value)})
	}
	owner.lose(errors.New("entry changed by somebody else"))
}

// PutOverride writes what an operator wants of an instance, in the stored form
// of a [registry.Override], valid or not. Nil removes it.
func (s *Store) PutOverride(service, id string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == nil {
		delete(s.overrides, service+"/"+id)
	} else {
		s.overrides[service+"/"+id] = slices.Clone(value)
	}
	s.announceLocked()
}

// Override returns what PutOverride wrote; nil if there is nothing.
func (s *Store) Override(service, id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.overrides[service+"/"+id])
}

// Instances returns the instances of a service that are in the store, sorted
// by ID, without entries that are not valid. It works also while the store is
// unavailable.
func (s *Store) Instances(service string) []registry.Instance {
	s.mu.Lock()
	list := s.listLocked(service)
	s.mu.Unlock()
	return list.Instances
}

func (s *Store) announceLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Store) ownerLocked(service, id string) *registration {
	if svc := s.services[service]; svc != nil {
		return svc.entries[id].owner
	}
	return nil
}

// putLocked writes an entry; nil removes it.
func (s *Store) putLocked(name, id string, e *entry) {
	svc := s.services[name]
	if svc == nil {
		svc = &service{entries: make(map[string]entry), withdrawn: make(map[string]bool)}
		s.services[name] = svc
	}
	if e == nil {
		if last, err := registry.Decode(name, id, svc.entries[id].value); err == nil && last.State == registry.Draining {
			if len(svc.withdrawn) >= maxWithdrawn {
				clear(svc.withdrawn)
			}
			svc.withdrawn[id] = true
		}
		delete(svc.entries, id)
	} else {
		delete(svc.withdrawn, id)
		svc.entries[id] = *e
	}
	s.revision++
	svc.revision = s.revision
	s.announceLocked()
}

func (s *Store) listLocked(name string) registry.List {
	list := registry.List{Revision: s.revision}
	svc := s.services[name]
	if svc == nil {
		return list
	}
	list.Withdrawn = slices.Collect(maps.Keys(svc.withdrawn))
	for _, id := range slices.Sorted(maps.Keys(svc.entries)) {
		inst, err := registry.Decode(name, id, svc.entries[id].value)
		if err != nil {
			list.Skipped = append(list.Skipped, registry.Skipped{Key: name + "/" + id, Err: err})
			continue
		}
		list.Instances = append(list.Instances, inst)
	}
	return list
}

// driver is a Store as registry.Driver sees it.
type driver struct{ store *Store }

func (d driver) Kind() string { return "memory" }

func (d driver) Close() error { return nil }

func (d driver) Reachable() <-chan struct{} {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	return d.store.up
}

func (d driver) Register(ctx context.Context, inst registry.Instance, _ time.Duration) (registry.Registration, error) {
	r := &registration{store: d.store, service: inst.Service, id: inst.ID, lost: make(chan struct{})}
	if err := r.write(ctx, inst, true); err != nil {
		return nil, err
	}
	return r, nil
}

func (d driver) Watch(ctx context.Context, name string, emit func(registry.List)) error {
	s := d.store
	last := int64(-1)
	for {
		s.mu.Lock()
		changed, down := s.changed, s.down
		var revision int64
		if svc := s.services[name]; svc != nil {
			revision = svc.revision
		}
		var list registry.List
		if revision != last {
			list = s.listLocked(name)
		}
		s.mu.Unlock()

		if down != nil {
			return down
		}
		if revision != last {
			emit(list)
			last = revision
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d driver) WatchOverride(ctx context.Context, service, id string, emit func([]byte)) error {
	s := d.store
	var last []byte
	for first := true; ; first = false {
		s.mu.Lock()
		changed, down, value := s.changed, s.down, s.overrides[service+"/"+id]
		s.mu.Unlock()
		if down != nil {
			return down
		}
		if first || !bytes.Equal(value, last) || (value == nil) != (last == nil) {
			emit(value)
			last = value
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d driver) ClearOverride(_ context.Context, service, id string) error {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	delete(s.overrides, service+"/"+id)
	s.announceLocked()
	return nil
}

// registration is one entry that a registry put into the store.
type registration struct {
	// Immutable.
	store   *Store
	service string
	id      string
	lost    chan struct{}

	err error // guarded by store.mu; set once, when lost is closed
}

// write puts the instance into the store. A new registration takes the entry
// over from whoever has it; another one must still have it.
func (r *registration) write(ctx context.Context, inst registry.Instance, takeOver bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	value, err := registry.Encode(inst)
	if err != nil {
		return err
	}
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	owner := s.ownerLocked(r.service, r.id)
	if owner != r {
		if !takeOver {
			return fmt.Errorf("entry is lost: %w", r.err)
		}
		owner.lose(errors.New("entry changed by somebody else"))
	}
	s.putLocked(r.service, r.id, &entry{value: value, owner: r})
	return nil
}

// Doubt is why the store is not available. An entry does not expire meanwhile, but
// nobody can tell.
func (r *registration) Doubt() (changed <-chan struct{}, err error) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	return r.store.changed, r.store.down
}

// lose is called with the store's mutex held; r may be nil.
func (r *registration) lose(err error) {
	if r == nil || r.err != nil {
		return
	}
	r.err = err
	close(r.lost)
}

func (r *registration) Update(ctx context.Context, inst registry.Instance) error {
	return r.write(ctx, inst, false)
}

func (r *registration) Lost() <-chan struct{} { return r.lost }

func (r *registration) Err() error {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	return r.err
}

func (r *registration) Withdraw(context.Context) error {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	if s.ownerLocked(r.service, r.id) == r {
		s.putLocked(r.service, r.id, nil)
	}
	return nil
}
