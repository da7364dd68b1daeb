// Package breaker holds back calls to a service that refuses most of them: the
// adaptive throttle of "Site Reliability Engineering", chapter 21. It is a state
// machine over numbers and time.Time; it starts nothing and waits for nothing.
//
// Over the last ten seconds it counts the attempts that were sent and those of
// them that the service refused because of overload. A new attempt is rejected
// with the probability
//
//	p = (sent - K*(sent-refused) - Slack) / (sent + 1)    at most MaxReject
//
// Guarantees:
//   - A service that refuses less than half of what it is sent (K = 2) sees no
//     difference; nothing trips, nothing is ever fully closed, and no timer has to
//     run out: the tenth that still passes is what finds out that the service is
//     well again.
//   - Only overload counts. An attempt that has not ended counts as accepted, so
//     a service that is slow, or a burst at start, is not throttled for it.
//   - Rejected calls are not counted as sent. The book counts them, which
//     throttles a large overload harder but takes three times as long to let go.
//   - All methods may be called concurrently; a mutex is held for nanoseconds.
package breaker

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// Window is how long an attempt is remembered.
	Window = buckets * bucketWidth
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

// Outcome is how an attempt ended, as far as overload is concerned.
type Outcome uint8

const (
	// Accepted means that the service took the attempt on, whatever came of it.
	Accepted Outcome = iota
	// Refused means that the service turned the attempt away, or was not there.
	Refused
	// Neutral means that the attempt says nothing: the caller gave up, or it
	// was never sent. It is taken out of the count.
	Neutral
)

// Breaker throttles one method of one service. Use [New].
type Breaker struct {
	rand  func() float64
	start time.Time

	mu            sync.Mutex
	epoch         int64 // number of the current bucket, counted from start
	sent, refused int64 // over the whole window
	ring          [buckets]struct{ sent, refused int64 }
}

// New returns a breaker that has seen nothing. The numbers in [0, 1) that rand
// returns decide which calls are rejected; nil means the runtime's own source,
// which is the right one everywhere but in a test with a fixed seed. It is
// called concurrently.
func New(now time.Time, random func() float64) *Breaker {
	if random == nil {
		random = rand.Float64
	}
	return &Breaker{rand: random, start: now}
}

// Permit is the right to send one attempt. It must be given back to [Breaker.Done].
type Permit struct {
	epoch int64
}

// Allow decides about an attempt that is about to be sent. If it returns true
// the attempt is counted as sent.
func (b *Breaker) Allow(now time.Time) (Permit, bool) {
	b.mu.Lock()
	b.advanceLocked(now)
	if p := b.rejectLocked(); p > 0 {
		// The source of chance is foreign code: not to be called under a lock.
		b.mu.Unlock()
		if b.rand() < p {
			return Permit{}, false
		}
		b.mu.Lock()
	}
	b.sent++
	b.ring[b.epoch%buckets].sent++
	permit := Permit{epoch: b.epoch}
	b.mu.Unlock()
	return permit, true
}

// Done records how an attempt that was allowed has ended. It counts for the
// moment it was sent; an attempt that is older than the window is forgotten.
func (b *Breaker) Done(now time.Time, permit Permit, outcome Outcome) {
	if outcome == Accepted { // was counted so when it was sent
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

// State is a reading of a breaker.
type State struct {
	// Sent is the number of attempts sent within the window.
	Sent int64
	// Refused is how many of them the service refused.
	Refused int64
	// Reject is the probability, from 0 to [MaxReject], that the next one is
	// rejected.
	Reject float64
}

// State tells what the breaker would decide from.
func (b *Breaker) State(now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(now)
	return State{Sent: b.sent, Refused: b.refused, Reject: b.rejectLocked()}
}

func (b *Breaker) rejectLocked() float64 {
	if b.refused <= Slack { // with K >= 1 there is nothing to compute
		return 0
	}
	accepted := float64(b.sent - b.refused)
	p := (float64(b.sent) - K*accepted - Slack) / float64(b.sent+1)
	return min(max(p, 0), MaxReject)
}

// advanceLocked empties the buckets that have fallen out of the window. A time
// before the newest one seen changes nothing.
func (b *Breaker) advanceLocked(now time.Time) {
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
