package registry

import (
	"context"
	"fmt"
	"iter"
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
	// Source says where the list comes from; empty while there is none.
	Source Source
	// Quarantined says which of the Instances the backend no longer lists
	// although nobody withdrew them, and since when they are absent, by ID; nil
	// if there are none. They may be called for as long as they answer: say so
	// with [Registry.Drop] when one does not.
	Quarantined map[string]time.Time
}

// Source says where a list comes from.
type Source string

const (
	// SourceRegistry is a list that the backend gave.
	SourceRegistry Source = "registry"
	// SourceSnapshot is the last good list of an earlier process, from the file
	// of [WithSnapshots]. Its At is when that was known to be right, at most
	// [MaxSnapshotAge] ago. It is shown when the backend's first answer is an
	// error or takes longer than 500 milliseconds, until the backend gives a
	// list; those that are not in that one are in quarantine then.
	SourceSnapshot Source = "snapshot"
	// SourceFallback is a list of [WithFallback], for lack of anything better.
	// Its At is zero.
	SourceFallback Source = "fallback"
)

const (
	// QuarantineTime is how long an instance that the backend no longer lists
	// may be called, if it answers. It is not counted while the backend fails.
	QuarantineTime = 15 * time.Minute
	// MaxSnapshotAge is how old a list on disk may be to start from it.
	MaxSnapshotAge = 24 * time.Hour
)

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

// Drop says that an instance in quarantine does not answer, and why: it leaves
// the list of its service at once. It has no effect on an instance that the
// backend lists, and on one that is not known, so it may be called for any.
func (r *Registry) Drop(service, id string, reason error) {
	if w := r.watched(service); w != nil {
		w.drop(id, reason)
	}
}

// Current returns the latest list of a service that is being watched, without
// waiting; ok is false if nobody watches it or there is no list yet. Its At is
// now while the backend is well, so that its age is that of the last good list
// and not that of the last change.
func (r *Registry) Current(service string) (snapshot Snapshot, ok bool) {
	if w := r.watched(service); w != nil {
		return w.current()
	}
	return Snapshot{}, false
}

func (r *Registry) watched(service string) *watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watches[service]
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
		w = r.startWatch(service)
		r.watches[service] = w
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
