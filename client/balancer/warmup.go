package balancer

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// SlowStart is how long after its start an instance has less than its full
	// share of the calls: caches are cold, pools empty, code not compiled or
	// paged in. Its share grows evenly from [SlowStartShare]. An instance is
	// spared only while there is one that needs no sparing: when a whole fleet
	// has just started, all have their full share.
	SlowStart = 10 * time.Second
	// SlowStartShare is the share that an instance starts with, relative to
	// what it would get without a slow start.
	SlowStartShare = 0.1
)

// warmUp is how far an endpoint's instance has got into its slow start.
//
// The start is told by the instance's own clock, which may be wrong. A clock
// that is behind makes an instance look old, which costs it the slow start; one
// that is ahead cannot hold it in the slow start, because the time since this
// client first heard of the instance counts as well.
type warmUp struct {
	epoch time.Time // immutable, of the set

	// Guarded by Set.mu.
	started time.Time     // what the instance says
	since   time.Duration // after epoch: when this client takes it for started

	// begun is since while the instance is spared, else notWarming.
	begun   atomic.Int64
	applied bool // guarded by Set.mu; before, the zero begun means nothing
}

const notWarming = math.MinInt64

// see takes in what a list says, and returns the age of the instance.
func (w *warmUp) see(now, started time.Time) time.Duration {
	at := now.Sub(w.epoch)
	if !w.applied || !started.Equal(w.started) { // a new process, maybe at an old address
		w.started, w.since = started, at
		if age := now.Round(0).Sub(started); started.IsZero() || age > SlowStart {
			w.since = at - SlowStart
		} else if age > 0 {
			w.since = at - age
		}
	}
	return at - w.since
}

// replacedBy reports whether the instance that is told of is another process than
// the one before. One that does not tell its start cannot be told apart.
func (w *warmUp) replacedBy(started time.Time) bool {
	return w.applied && !started.IsZero() && !w.started.IsZero() && !started.Equal(w.started)
}

// apply begins or ends the sparing.
func (w *warmUp) apply(settled bool) {
	w.applied = true
	if settled {
		w.begun.Store(int64(w.since))
	} else {
		w.begun.Store(notWarming)
	}
}

// share is the part of its calls that an endpoint takes at a moment, from
// SlowStartShare to 1.
func (e *Endpoint) share(now time.Time) float64 {
	begun := e.warm.begun.Load()
	if begun == notWarming {
		return 1
	}
	age := now.Sub(e.warm.epoch) - time.Duration(begun)
	if age >= SlowStart {
		e.warm.begun.CompareAndSwap(begun, notWarming) // spare the next pick the arithmetic
		return 1
	}
	return SlowStartShare + (1-SlowStartShare)*float64(max(age, 0))/float64(SlowStart)
}

// admits reports whether an endpoint may be picked, which while it warms up is left
// to chance: alone it is its share. Among compared candidates it is that much less,
// because one that has little to do wins the comparison; the difference goes as the
// share grows.
func (e *Endpoint) admits(now time.Time, source func() uint64, compared int) bool {
	share := e.share(now)
	if share >= 1 {
		return true
	}
	chance := share / (1 + float64(compared-1)*(1-share))
	return float64(random(source)>>11)/(1<<53) < chance
}
