package limit

import (
	"maps"
	"time"

	"plinth.internal/middleware"
)

// quiet is how long nobody must have been turned away for a burst to be over.
const quiet = 10 * time.Second

// Event is something that a limiter tells of. The set is closed.
type Event interface{ event() }

// SheddingBegan says that a call was turned away, after a while in which none was.
type SheddingBegan struct {
	// Reason, Method and Caller are those of this call, Rate is the name of the rate
	// that is used up, "" for none.
	Reason Reason
	Rate   string
	Method string
	Caller string
	// Limit is the limit in use, InFlight what is in flight.
	Limit, InFlight int64
	// Latency is the mean of late, Usual the one when all is well; 0 = not known.
	Latency, Usual time.Duration
}

// SheddingEnded says that none was for a while. It is told with one of the calls that
// come after it.
type SheddingEnded struct {
	// Took is the time from the first to the last one.
	Took time.Duration
	// Counts are how many were turned away, by the reasons that there were.
	Counts map[Reason]int64
}

// CallerLimited says that a caller asks for more than its share while there is not
// enough for all. It is told again after a minute at the earliest.
type CallerLimited struct {
	// Caller is its name.
	Caller string
	// Rate is how many calls a second it makes, Share how many it would get.
	Rate, Share float64
}

func (SheddingBegan) event() {}
func (SheddingEnded) event() {}
func (CallerLimited) event() {}

// burst is a time in which calls are turned away.
type burst struct {
	began  time.Duration
	before map[Reason]int64 // what was counted before
}

// note notes that a call was turned away, and tells of the first one.
func (l *Limiter) note(call *middleware.Call, e entry, rejected *RejectedError) {
	before := time.Duration(l.lastShed.Swap(int64(e.begun)))
	if before != 0 && e.begun-before < quiet {
		return
	}
	s := l.Stats()
	l.mu.Lock()
	over := l.endLocked(before)
	l.burst = &burst{began: e.begun, before: map[Reason]int64{}}
	maps.Copy(l.burst.before, s.Rejected)
	l.burst.before[rejected.Reason]-- // this one is of the burst
	l.mu.Unlock()
	l.tell(over)
	l.tell(SheddingBegan{
		Reason: rejected.Reason, Rate: rejected.Rate, Method: call.FullMethod(), Caller: e.caller,
		Limit: s.Limit, InFlight: s.InFlight, Latency: s.Latency, Usual: s.Usual,
	})
}

// settle tells of what has come to light or to an end when a window was closed.
func (l *Limiter) settle(now time.Duration) {
	for _, e := range l.policy.takeNews() {
		l.tell(e)
	}
	last := time.Duration(l.lastShed.Load())
	if last == 0 || now-last < quiet || !l.lastShed.CompareAndSwap(int64(last), 0) {
		return
	}
	l.mu.Lock()
	over := l.endLocked(last)
	l.mu.Unlock()
	l.tell(over)
}

// endLocked is the event of the end of the burst that there is, nil for none.
func (l *Limiter) endLocked(last time.Duration) Event {
	b := l.burst
	if b == nil {
		return nil
	}
	l.burst = nil
	e := SheddingEnded{Took: max(last-b.began, 0), Counts: map[Reason]int64{}}
	for r, n := range l.counts {
		if d := n.Load() - b.before[r]; d > 0 {
			e.Counts[r] = d
		}
	}
	return e
}

func (l *Limiter) tell(e Event) {
	if e != nil && l.options.events != nil {
		l.options.events(e)
	}
}
