package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// updateEvery is the shortest time between two lists of one service.
	updateEvery = 100 * time.Millisecond
	// startPatience is how long a new watch waits for the backend's first list
	// before it shows the one to start from.
	startPatience = 500 * time.Millisecond
)

// watch is one watch of the backend, shared by all watchers of a service. It
// has three goroutines: run talks to the backend, tend takes care of what
// happens by itself with time, and keep writes the list to disk.
type watch struct {
	// Immutable.
	registry *Registry
	service  string
	cancel   context.CancelFunc
	stop     <-chan struct{} // closed when the watch is to end
	done     chan struct{}   // closed when run has ended
	stirred  chan struct{}   // capacity 1, for tend: the quarantine has changed
	unsaved  chan struct{}   // capacity 1, for keep: the list has changed
	prepare  func()          // finds the list to start from; once

	watchers int // guarded by registry.mu

	mu      sync.Mutex
	roster  roster
	view    view
	changed chan struct{} // closed and replaced when view.version changes
	failed  time.Time     // since when there is no good list; zero while there is
	news    []Event       // to be told, in order
	telling bool          // somebody is telling them
}

// view is what watchers are shown.
type view struct {
	snapshot Snapshot
	err      error
	version  uint64 // 0: nothing to show yet
}

// startWatch is called with the registry's mutex held.
func (r *Registry) startWatch(service string) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{
		registry: r,
		service:  service,
		cancel:   cancel,
		stop:     ctx.Done(),
		done:     make(chan struct{}),
		stirred:  make(chan struct{}, 1),
		unsaved:  make(chan struct{}, 1),
		view:     view{snapshot: Snapshot{Service: service}},
		changed:  make(chan struct{}),
	}
	w.prepare = sync.OnceFunc(w.begin)
	r.wg.Go(func() { w.run(ctx) })
	r.wg.Go(w.tend)
	if r.disk != nil {
		r.wg.Go(w.keep)
	}
	return w
}

func (w *watch) load() (view, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view, w.changed
}

// current returns the list there is. While the driver's watch runs it promises
// to see every change, so what it said last is true now.
func (w *watch) current() (Snapshot, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.view.snapshot
	if s.Source == SourceRegistry && w.failed.IsZero() {
		s.At = time.Now()
	}
	return s, s.Source != ""
}

// unlock releases the mutex and tells the news, in the order in which they were
// added, whoever added them.
func (w *watch) unlock() {
	if w.telling {
		w.mu.Unlock()
		return
	}
	w.telling = true
	for len(w.news) > 0 {
		news := w.news
		w.news = nil
		w.mu.Unlock()
		for _, event := range news {
			w.registry.events(event)
		}
		w.mu.Lock()
	}
	w.telling = false
	w.mu.Unlock()
}

// run keeps a watch of the backend going until ctx ends.
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

// emit takes a good list from the driver. After one that changes something it
// holds the driver for a moment, so that what happens meanwhile is taken as one
// change; but not while there is nobody to call, for then the next list is
// urgent.
func (w *watch) emit(list List) {
	sortInstances(list.Instances)
	slices.SortFunc(list.Skipped, func(a, b Skipped) int { return strings.Compare(a.Key, b.Key) })
	if !w.take(list) {
		return
	}
	timer := time.NewTimer(updateEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.stop:
	}
}

// take applies a list and reports whether it changed what watchers are shown,
// and there is somebody to call.
func (w *watch) take(list List) (hold bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.unlock()
	if !w.failed.IsZero() {
		w.roster.extend(now)
		w.news = append(w.news, WatchRecovered{Service: w.service, Instances: len(list.Instances), Outage: now.Sub(w.failed)})
		w.failed = time.Time{}
	}
	out := w.roster.update(list, now)
	if len(out.lapsed) > 0 {
		w.news = append(w.news, InstancesLapsed{Service: w.service, IDs: out.lapsed})
	}
	if out.mass != nil {
		out.mass.Service = w.service
		w.news = append(w.news, *out.mass)
	}
	for _, s := range list.Skipped {
		if !slices.ContainsFunc(w.view.snapshot.Skipped, s.same) {
			w.news = append(w.news, EntrySkipped{Service: w.service, Key: s.Key, Err: s.Err})
		}
	}
	news := w.showLocked(Snapshot{Service: w.service, Revision: list.Revision, At: now, Skipped: list.Skipped}, nil)
	return news && len(w.view.snapshot.Instances) > 0
}

// fail shows an error beside the last good list, or the one to start from.
func (w *watch) fail(err error) {
	w.prepare()
	w.mu.Lock()
	defer w.unlock()
	last := w.view.snapshot
	w.publishLocked(last, err)
	if w.failed.IsZero() {
		w.failed = time.Now()
		w.news = append(w.news, WatchFailed{Service: w.service, Err: err, Confirmed: last.At})
	}
}

// begin finds the list to start from, for as long as the backend gives none.
func (w *watch) begin() {
	r := w.registry
	w.mu.Lock()
	known := w.roster.source != ""
	w.mu.Unlock()
	if known {
		return
	}
	stored, err := r.disk.load(w.service, time.Now())
	fallback := r.fallback[w.service]

	w.mu.Lock()
	defer w.unlock()
	if err != nil {
		w.news = append(w.news, SnapshotRejected{Service: w.service, Path: r.disk.path(w.service), Err: err})
	}
	for _, s := range fallback.Skipped {
		w.news = append(w.news, EntrySkipped{Service: w.service, Key: s.Key, Err: s.Err})
	}
	base := Snapshot{Service: w.service}
	switch {
	case w.roster.source != "":
		return // the backend was faster after all
	case len(stored.Instances) > 0:
		base.Revision, base.At = stored.Revision, stored.At
		w.roster.begin(SourceSnapshot, stored.listed(), stored.absent())
	case len(fallback.Instances) > 0:
		base.Skipped = fallback.Skipped
		w.roster.begin(SourceFallback, fallback.Instances, nil)
	default:
		return
	}
	w.showLocked(base, w.view.err)
}

// drop takes an instance out of quarantine that does not answer.
func (w *watch) drop(id string, reason error) {
	w.mu.Lock()
	defer w.unlock()
	if a, ok := w.roster.drop(id); ok {
		w.dropped(a, time.Now(), reason)
		w.showLocked(w.view.snapshot, w.view.err)
	}
}

func (w *watch) dropped(a absence, now time.Time, reason error) {
	w.news = append(w.news, InstanceDropped{Service: w.service, ID: a.ID, Absent: now.Sub(a.since), Err: reason})
}

// errExpired is why an instance leaves quarantine when nobody complains.
var errExpired = fmt.Errorf("not in the registry for %v", QuarantineTime)

// expire ends the quarantine of those whose time is over, and returns how long
// the next one has. While the backend fails nobody can come back, and so nobody
// is late.
func (w *watch) expire() time.Duration {
	now := time.Now()
	w.mu.Lock()
	defer w.unlock()
	if !w.failed.IsZero() || w.roster.source != SourceRegistry {
		return QuarantineTime
	}
	if expired := w.roster.expire(now); len(expired) > 0 {
		for _, a := range expired {
			w.dropped(a, now, errExpired)
		}
		w.showLocked(w.view.snapshot, w.view.err)
	}
	if next := w.roster.expiry(); !next.IsZero() {
		return next.Sub(now)
	}
	return QuarantineTime
}

// tend does what time brings.
func (w *watch) tend() {
	late := time.NewTimer(startPatience)
	defer late.Stop()
	expiry := time.NewTimer(QuarantineTime)
	defer expiry.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-late.C:
			w.prepare()
		case <-w.stirred:
			expiry.Reset(w.expire())
		case <-expiry.C:
			expiry.Reset(w.expire())
		}
	}
}

// showLocked publishes the roster's instances with the rest of the given
// snapshot, and reports whether that is worth waking anybody for.
func (w *watch) showLocked(next Snapshot, err error) bool {
	next.Instances, next.Quarantined = w.roster.callable()
	next.Source = w.roster.source
	last := w.view
	if last.version > 0 && err == nil && last.err == nil && sameContent(last.snapshot, next) {
		w.view.snapshot.At, w.view.snapshot.Revision = next.At, next.Revision
		return false
	}
	w.publishLocked(next, err)
	signal(w.stirred)
	signal(w.unsaved)
	return true
}

func (w *watch) publishLocked(s Snapshot, err error) {
	w.view = view{snapshot: s, err: err, version: w.view.version + 1}
	close(w.changed)
	w.changed = make(chan struct{})
}

// signal wakes whoever reads the channel, of capacity 1, now or next.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func sameContent(a, b Snapshot) bool {
	return a.Source == b.Source && slices.EqualFunc(a.Instances, b.Instances, Instance.Equal) &&
		maps.EqualFunc(a.Quarantined, b.Quarantined, time.Time.Equal) && slices.EqualFunc(a.Skipped, b.Skipped, Skipped.same)
}

func (s Skipped) same(other Skipped) bool {
	return s.Key == other.Key && s.Err.Error() == other.Err.Error()
}
