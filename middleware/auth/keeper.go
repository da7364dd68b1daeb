package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"plinth.internal/internal/backoff"
)

// filePoll is how often a file is read. A change counts when two readings have
// found the same, so that half of a file is never taken for the whole.
const filePoll = 250 * time.Millisecond

// errNotRead stands for keys that nobody has read yet.
var errNotRead = errors.New("the keys were not read yet")

// keeper keeps the keys of one issuer. The goroutine of run reads them; calls take
// what there is, or wait for it in renewed.
type keeper struct {
	// Set at construction, never changed.
	issuer  Issuer
	fetcher *fetcher
	events  func(Event)
	wake    chan struct{} // holds one: somebody wants the keys now

	current atomic.Pointer[keySet] // the last good ones, nil for none

	// Of the goroutine that reads, before it runs of open.
	text, last string // in use, and as read last
	told       string // the failure that was told last

	mu    sync.Mutex
	err   error
	over  bool          // run has returned
	begun time.Time     // of the last reading
	done  chan struct{} // closed when the reading that goes on, or the first one, is over; nil for none
}

func newKeeper(i Issuer, f *fetcher, events func(Event)) *keeper {
	k := &keeper{issuer: i, fetcher: f, events: events, err: errNotRead}
	if i.remote() {
		k.wake, k.done = make(chan struct{}, 1), make(chan struct{})
	}
	return k
}

// open reads a file for the first time, which must go well. A URL is left to run:
// an issuer that is down must not keep a service from its start.
func (k *keeper) open() error {
	if k.issuer.remote() {
		return nil
	}
	data, err := readFile(k.issuer.Keys)
	if err != nil {
		return err
	}
	set, err := parseKeys(data)
	if err != nil {
		return fmt.Errorf("%s: %w", k.issuer.place(), err)
	}
	k.current.Store(set)
	k.text, k.last = string(data), string(data)
	k.err = nil
	return nil
}

func (k *keeper) run(ctx context.Context) {
	if !k.issuer.remote() {
		k.follow(ctx)
		return
	}
	defer k.close()
	for failures := 0; ; {
		if k.fetch(ctx) {
			failures = 0
		} else {
			failures++
		}
		pause := k.issuer.refresh()
		if failures > 0 {
			pause = backoff.Ceiling(MinRefresh, pause, failures-1)
		}
		timer := time.NewTimer(max(MinRefresh, backoff.Around(pause, 0.1)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// close lets go of who waits.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	k.endLocked()
	k.fetcher.close()
}

func (k *keeper) beginLocked(now time.Time) {
	k.begun = now
	if k.done == nil {
		k.done = make(chan struct{})
	}
}

func (k *keeper) endLocked() {
	if k.done != nil {
		close(k.done)
		k.done = nil
	}
}

// fetch reads the URL, and reports whether that went well.
func (k *keeper) fetch(ctx context.Context) bool {
	k.mu.Lock()
	select {
	case <-k.wake: // who has asked meanwhile waits for this reading
	default:
	}
	k.beginLocked(time.Now())
	k.mu.Unlock()
	data, err := k.fetcher.fetch(ctx, &k.issuer)
	if ctx.Err() == nil { // else it says nothing about the issuer
		k.take(data, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endLocked()
	return err == nil && k.err == nil
}

// follow reads the file until ctx ends.
func (k *keeper) follow(ctx context.Context) {
	ticker := time.NewTicker(filePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.poll()
		}
	}
}

// poll reads the file once.
func (k *keeper) poll() {
	data, err := readFile(k.issuer.Keys)
	seen := string(data)
	if err != nil {
		seen = err.Error()
	}
	settled := seen == k.last
	k.last = seen
	if settled {
		k.take(data, err)
	}
}

// take puts into use what was read, if it is good, and tells what is new.
func (k *keeper) take(data []byte, err error) {
	set := k.current.Load()
	same := err == nil && set != nil && string(data) == k.text
	if err == nil && !same {
		set, err = parseKeys(data)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", k.issuer.place(), err)
	}
	k.mu.Lock()
	k.err = err
	k.mu.Unlock()
	if err != nil {
		if text := err.Error(); text != k.told {
			k.told = text
			k.events(KeysFailed{Issuer: k.issuer.Name, Err: err, Kept: k.size()})
		}
		return
	}
	mended := k.told != ""
	k.told = ""
	if !same {
		k.current.Store(set)
		k.text = string(data)
	}
	if !same || mended {
		k.events(KeysChanged{Issuer: k.issuer.Name, Place: k.issuer.place(), Keys: len(set.keys)})
	}
}

func (k *keeper) size() int {
	if set := k.current.Load(); set != nil {
		return len(set.keys)
	}
	return 0
}

// renewed has the keys read anew because those that the caller has seen lack one,
// and returns what there is then: one reading for all who wait, and none within
// MinRefresh of the last one. It does not wait for ever for a run that does not
// come.
func (k *keeper) renewed(ctx context.Context, seen *keySet) *keySet {
	if !k.issuer.remote() {
		return k.current.Load()
	}
	k.mu.Lock()
	now := time.Now()
	switch {
	case k.current.Load() != seen || k.over:
		k.mu.Unlock()
		return k.current.Load()
	case k.done != nil: // one goes on
	case now.Sub(k.begun) < MinRefresh:
		k.mu.Unlock()
		return seen
	default:
		k.beginLocked(now)
		select {
		case k.wake <- struct{}{}:
		default: // it was woken already
		}
	}
	done := k.done
	k.mu.Unlock()
	timer := time.NewTimer(fetchTimeout + time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return k.current.Load()
}

// check is why the keys are not what they should be.
func (k *keeper) check(ctx context.Context) error {
	if k.current.Load() == nil {
		k.renewed(ctx, nil)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil && k.current.Load() != nil {
		return fmt.Errorf("%w; the keys known before stay in use", k.err)
	}
	return k.err
}
