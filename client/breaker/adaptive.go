package breaker

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// K is how many attempts may be sent for each one that is accepted.
	K = 2.0
	// Slack is the number of refusals within the window that have no effect,
	// so that a client of low rate is not throttled after one bad answer.
	Slack = 10.0
	// MaxReject is the largest part of the calls that is rejected.
	MaxReject = 0.9

	buckets     = 10
	bucketWidth = time.Second
)

// adaptive is the throttle.
type adaptive struct {
	rand  func() float64
	start time.Time

	mu            sync.Mutex
	epoch         int64 // number of the current bucket, counted from start
	sent, refused int64 // over the whole window
	ring          [buckets]struct{ sent, refused int64 }
}

func newAdaptive(now time.Time, random func() float64) *adaptive {
	if random == nil {
		random = rand.Float64
	}
	return &adaptive{rand: random, start: now}
}

// Allow decides about an attempt that is about to be sent. Without an error the
// attempt is counted as sent.
func (b *adaptive) Allow(now time.Time) (Permit, error) {
	b.mu.Lock()
	b.advanceLocked(now)
	if reject := b.rejectLocked(); reject > 0 {
		state := b.stateLocked()
		// The source of chance is foreign code: not to be called under a lock.
		b.mu.Unlock()
		if b.rand() < reject {
			return Permit{}, &Rejection{At: now, State: state}
		}
		b.mu.Lock()
	}
	b.sent++
	b.ring[b.epoch%buckets].sent++
	permit := Permit{epoch: b.epoch}
	b.mu.Unlock()
	return permit, nil
}

// Done records how an attempt that was allowed has ended. It counts for the
// moment it was sent; an attempt that is older than the window is forgotten.
func (b *adaptive) Done(now time.Time, permit Permit, outcome Outcome) {
	if outcome == Accepted || outcome == Failed { // was counted so when it was sent
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	if permit.epoch <= b.epoch-buckets {
		return
	}
	bucket := &b.ring[permit.epoch%buckets]
	if outcome == Refused {
		b.refused++
		bucket.refused++
	} else {
		b.sent--
		bucket.sent--
	}
}

// State tells what the breaker would decide from.
func (b *adaptive) State(now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	return b.stateLocked()
}

func (b *adaptive) stateLocked() State {
	s := State{Policy: PolicyAdaptive, Sent: b.sent, Failed: b.refused, Reject: b.rejectLocked()}
	if s.Reject > 0 {
		s.Phase = Throttling
	}
	return s
}

func (b *adaptive) rejectLocked() float64 {
	if b.refused <= Slack { // with K >= 1 there is nothing to compute
		return 0
	}
	accepted := float64(b.sent - b.refused)
	p := (float64(b.sent) - K*accepted - Slack) / float64(b.sent+1)
	return min(max(p, 0), MaxReject)
}

// advanceLocked empties the buckets that have fallen out of the window. A time
// before the newest one seen changes nothing.
func (b *adaptive) advanceLocked(now time.Time) {
	epoch := int64(now.Sub(b.start) / bucketWidth)
	if epoch <= b.epoch {
		return
	}
	for range min(epoch-b.epoch, buckets) {
		b.epoch++
		old := &b.ring[b.epoch%buckets]
		b.sent -= old.sent
		b.refused -= old.refused
		old.sent, old.refused = 0, 0
	}
	b.epoch = epoch
}
