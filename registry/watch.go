package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Snapshot is the list of a service's instances at one moment. It is shared by
// all watchers: read only.
type Snapshot struct {
	// Service is the name of the service.
	Service string
	// Instances are sorted by ID. Those that are draining are among them.
	Instances []Instance
	// Revision is the backend's own number for the state it was in; zero if it
	// has none. It may go down when a backend is restored from a copy.
	Revision int64
	// At is when the backend last confirmed the list; zero if it has never
	// given one.
	At time.Time
	// Skipped are the entries that are not instances, sorted by key.
	Skipped []Skipped
}

// watch is one watch of the backend, shared by all watchers of a service. Its
// goroutine, run, is the only one that changes the view.
type watch struct {
	// Immutable.
	registry *Registry
	service  string
	cancel   context.CancelFunc
	done     chan struct{} // closed when run has ended

	watchers int // guarded by registry.mu

	// Owned by run.
	failed time.Time // since when there is no good list; zero while there is

	mu      sync.Mutex
	view    view
	changed chan struct{} // closed and replaced when view.version changes
}

// view is what watchers are shown.
type view struct {
	snapshot Snapshot
	err      error
	version  uint64 // 0: nothing to show yet
}

// Watch returns an iterator over the lists of a service: the current one as
// soon as it is known, and then one after each change. A consumer that takes
// its time is not queued for: it gets the latest list. The name of a service
// that does not exist has an empty list until it does.
//
// While the backend fails, each failed attempt is yielded as an error together
// with the last good list (without instances and with a zero At if there is
// none), and when the backend is well again, the current list without an
// error. The iteration ends when ctx ends, when the consumer breaks, and when
// the registry is closed; after a bad service name or [ErrClosed] it yields
// only that.
func (r *Registry) Watch(ctx context.Context, service string) iter.Seq2[Snapshot, error] {
	return func(yield func(Snapshot, error) bool) {
		w, err := r.join(service)
		if err != nil {
			yield(Snapshot{Service: service}, fmt.Errorf("watch service %q: %w", service, err))
			return
		}
		defer r.leave(w)
		var seen uint64
		for ctx.Err() == nil {
			v, changed := w.load()
			if v.version != seen {
				seen = v.version
				if !yield(v.snapshot, v.err) {
					return
				}
				continue
			}
			select {
			case <-changed:
			case <-w.done:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// join returns the watch of the service, making one for the first watcher.
func (r *Registry) join(service string) (*watch, error) {
	if err := validName(service); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	w, ok := r.watches[service]
	if !ok {
		ctx, cancel := context.WithCancel(context.Background())
		w = &watch{
			registry: r,
			service:  service,
			cancel:   cancel,
			done:     make(chan struct{}),
			view:     view{snapshot: Snapshot{Service: service}},
			changed:  make(chan struct{}),
		}
		r.watches[service] = w
		r.wg.Go(func() { w.run(ctx) })
	}
	w.watchers++
	return w, nil
}

// leave ends the watch with its last watcher.
func (r *Registry) leave(w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.watchers--
	if w.watchers == 0 {
		delete(r.watches, w.service)
		w.cancel()
	}
}

func (w *watch) load() (view, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view, w.changed
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	defer w.cancel()
	failures := 0
	for {
		reachable := w.registry.reachable()
		began := time.Now()
		err := w.registry.driver.Watch(ctx, w.service, w.emit)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the backend ended the watch")
		}
		// A watch that lists and breaks at once is not a healthy one.
		if time.Since(began) > retryMax {
			failures = 0
		}
		w.fail(fmt.Errorf("watch service %s: %w", w.service, err))
		if pause(ctx, failures, reachable, nil, nil) {
			failures = 0
		} else {
			failures++
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// emit takes a good list from the driver.
func (w *watch) emit(list List) {
	slices.SortFunc(list.Instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(list.Skipped, func(a, b Skipped) int { return strings.Compare(a.Key, b.Key) })
	now := time.Now()
	next := Snapshot{Service: w.service, Instances: list.Instances, Revision: list.Revision, At: now, Skipped: list.Skipped}

	w.mu.Lock()
	last := w.view
	if last.version > 0 && last.err == nil && sameContent(last.snapshot, next) {
		// Nothing that a watcher must be woken for, but the list is confirmed.
		w.view.snapshot.At, w.view.snapshot.Revision = next.At, next.Revision
		w.mu.Unlock()
		return
	}
	w.publishLocked(next, nil)
	w.mu.Unlock()

	if !w.failed.IsZero() {
		w.registry.events(WatchRecovered{Service: w.service, Instances: len(next.Instances), Outage: now.Sub(w.failed)})
		w.failed = time.Time{}
	}
	for _, s := range next.Skipped {
		if !slices.ContainsFunc(last.snapshot.Skipped, s.same) {
			w.registry.events(EntrySkipped{Service: w.service, Key: s.Key, Err: s.Err})
		}
	}
}

// fail shows an error beside the last good list.
func (w *watch) fail(err error) {
	w.mu.Lock()
	last := w.view.snapshot
	w.publishLocked(last, err)
	w.mu.Unlock()

	if w.failed.IsZero() {
		w.failed = time.Now()
		w.registry.events(WatchFailed{Service: w.service, Err: err, Confirmed: last.At})
	}
}

func (w *watch) publishLocked(s Snapshot, err error) {
	w.view = view{snapshot: s, err: err, version: w.view.version + 1}
	close(w.changed)
	w.changed = make(chan struct{})
}

func sameContent(a, b Snapshot) bool {
	return slices.EqualFunc(a.Instances, b.Instances, Instance.Equal) && slices.EqualFunc(a.Skipped, b.Skipped, Skipped.same)
}

func (s Skipped) same(other Skipped) bool {
	return s.Key == other.Key && s.Err.Error() == other.Err.Error()
}
