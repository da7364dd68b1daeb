//go:build linux

package chaos_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"plinth.internal/registry"
)

const (
	// callsPerSecond are made whatever became of those before; half of them in
	// the short form, where more scenarios share the time.
	callsPerSecond = 200
	// callTimeout is far more than a healthy service needs on a busy machine.
	callTimeout = 2 * time.Second
)

// load calls the service at a steady rate.
type load struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	calls    int
	lost     int
	slowest  time.Duration
	failures []string       // the first ones
	served   map[string]int // by instance ID
}

func startLoad(conn *grpc.ClientConn) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, served: map[string]int{}}
	l.wg.Go(func() {
		tick := time.NewTicker(pick(time.Second, 2*time.Second) / callsPerSecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.wg.Go(func() { l.call(conn) })
			}
		}
	})
	return l
}

func (l *load) call(conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	begun := time.Now()
	id, err := say(ctx, conn)
	took := time.Since(begun)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.slowest = max(l.slowest, took)
	if err == nil {
		l.served[id]++
		return
	}
	l.lost++
	if len(l.failures) < 5 {
		l.failures = append(l.failures, fmt.Sprintf("%s, after %v: %v", begun.Format("15:04:05.000"), took.Round(time.Millisecond), err))
	}
}

// end stops calling and waits for the calls in flight.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// join adds the calls of another load; both have ended.
func (l *load) join(other *load) {
	l.calls += other.calls
	l.lost += other.lost
	l.slowest = max(l.slowest, other.slowest)
	l.failures = append(l.failures, other.failures...)
}

// answered returns how many calls an instance has answered.
func (l *load) answered(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served[id]
}

// watcher follows the list of the service as a client sees it, and finds the
// holes in it.
type watcher struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	expected []string // the instances that ought to be listed
	ids      []string // those that are
	skipped  int
	known    bool // there was a list
	emptied  bool // a list was empty after one that was not
	missing  time.Time
	hole     time.Duration // the longest
	err      error
}

func startWatcher(t *testing.T, reg *registry.Registry) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{stop: cancel}
	w.wg.Go(func() {
		for snapshot, err := range reg.Watch(ctx, echoService) {
			w.take(snapshot, err)
		}
	})
	t.Cleanup(w.end)
	return w
}

func (w *watcher) take(snapshot registry.Snapshot, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	if err != nil && !w.known && len(snapshot.Instances) == 0 {
		return // no list yet is no empty list
	}
	w.known, w.skipped = true, len(snapshot.Skipped)
	w.emptied = w.emptied || len(w.ids) > 0 && len(snapshot.Instances) == 0
	w.ids = w.ids[:0:0]
	for _, inst := range snapshot.Instances {
		w.ids = append(w.ids, inst.ID)
	}
	w.lookLocked()
}

// lookLocked begins or ends a hole.
func (w *watcher) lookLocked() {
	whole := true
	for _, id := range w.expected {
		whole = whole && slices.Contains(w.ids, id)
	}
	switch {
	case !whole && w.missing.IsZero():
		w.missing = time.Now()
	case whole && !w.missing.IsZero():
		w.hole = max(w.hole, time.Since(w.missing))
		w.missing = time.Time{}
	}
}

// expect says which instances ought to be listed from now on.
func (w *watcher) expect(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected = ids
	w.lookLocked()
}

// errNone stands for the error of a watch that has none.
var errNone = errors.New("none")

// sees returns an error unless the latest list is exactly this one.
func (w *watcher) sees(ids ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, want := slices.Sorted(slices.Values(w.ids)), slices.Sorted(slices.Values(ids))
	if !slices.Equal(have, want) {
		return fmt.Errorf("the client's list is %q, want %q; its last error: %w", have, want, cmp.Or(w.err, errNone))
	}
	return nil
}

// has returns an error unless the latest list has the instance.
func (w *watcher) has(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.ids, id) {
		return fmt.Errorf("the client's list %q has no %s; its last error: %w", w.ids, id, cmp.Or(w.err, errNone))
	}
	return nil
}

// end stops watching; a hole that is still open ends now.
func (w *watcher) end() {
	w.stop()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.missing.IsZero() {
		w.hole = max(w.hole, time.Since(w.missing))
		w.missing = time.Time{}
	}
}
