package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"plinth.internal/middleware"
)

const classes = 4 // of middleware.Criticality

// The parts of the limit that calls may use by how much they matter. Those that
// matter most may exceed it, by half and by the floor at least, so that they get
// through while others fill it.
const (
	plusPart          = 1.5
	sheddablePlusPart = 0.8
	sheddablePart     = 0.6
	// overPart is the part of what is theirs that is left to callers which ask
	// for more than their share. While there are any the others may exceed the
	// limit: they do not ask for more than can be served, but they come in bursts.
	overPart  = 0.5
	otherPart = 2
)

// outcome is how a call ended, as far as its latency is concerned.
type outcome uint8

const (
	served outcome = iota
	failed         // by the server's fault, perhaps before any work was done
	late           // the caller's patience was at its end
)

// policy is the limit that learns: a state machine over numbers and times, which
// are counted from any moment. It knows no transport. All methods may be called
// concurrently.
type policy struct {
	held    holding
	bounds  atomic.Pointer[bounds]
	callers *callers

	// Counted since the window began.
	shed    atomic.Int64
	late    atomic.Int64 // calls whose callers gave up before others were done
	overdue atomic.Int64 // calls whose callers gave up, among those sampled
	sampled atomic.Int64 // calls whose latency counts
	nanos   atomic.Int64 // their latencies
	seen    atomic.Int64 // calls in flight when others came
	streams atomic.Int64 // that were let in

	opened  atomic.Int64 // when the window began
	settled atomic.Int64 // calls that began before say nothing about the limit as it is
	want    atomic.Int64 // calls that make a window
	recent  atomic.Int64 // mean latency in the last window, 0 = not known

	mu      sync.Mutex
	learned learned // guarded by mu
	off     bool    // guarded by mu
	cap     int64   // guarded by mu
	there   int64   // calls in flight when the window began; guarded by mu
}

// bounds are the numbers of calls in flight from which on calls are turned away.
type bounds struct {
	normal, over [classes]int64 // by criticality
	room         [classes]int64 // likewise, of Config.Max, for calls and streams
	limit        int64          // 0 = none
}

func newPolicy(floor, start int) *policy {
	p := &policy{callers: newCallers()}
	p.learned = newLearned(float64(floor), float64(start))
	p.want.Store(p.learned.want())
	p.publishLocked() // nobody else has it yet
	return p
}

// configure switches the limit that learns off or on, and sets the one above it.
func (p *policy) configure(off bool, limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off, p.cap = off, limit
	p.publishLocked()
}

// publishLocked makes the limit felt. The parts are those of what holds calls back,
// be it learned or given, so that what matters less goes first in any case.
func (p *policy) publishLocked() {
	limit, top := p.learned.limit, math.Inf(1)
	if p.off {
		limit = math.Inf(1)
	}
	if p.cap > 0 {
		top = float64(p.cap)
		limit = min(limit, top)
	}
	b := &bounds{}
	if !math.IsInf(limit, 1) {
		b.limit = int64(limit)
	}
	for c := range b.normal {
		n, room := limit, top
		switch middleware.Criticality(c) {
		case middleware.CriticalPlus:
			n = max(plusPart*n, n+p.learned.floor)
		case middleware.SheddablePlus:
			n, room = sheddablePlusPart*n, sheddablePlusPart*room
		case middleware.Sheddable:
			n, room = sheddablePart*n, sheddablePart*room
		}
		n = min(n, room)
		b.room[c], b.normal[c], b.over[c] = places(room), places(n), places(overPart*n)
		if p.callers.greedy {
			b.normal[c] = places(min(otherPart*max(n, limit), room))
		}
	}
	p.bounds.Store(b)
}

// places is a number of calls, one at least; infinitely many are as many as can be
// counted.
func places(n float64) int64 {
	if n >= math.MaxInt64 {
		return math.MaxInt64
	}
	return max(1, int64(n))
}

// admit lets a call in, or a stream, which lasts and holds no place, or says why it
// does not. What was let in must be ended.
func (p *policy) admit(now time.Duration, class middleware.Criticality, who *caller, lasting bool) Reason {
	who.offered.Add(1)
	b, over := p.bounds.Load(), who.over.Load()
	for {
		h := p.held.load()
		n, all := h.calls(), h.used()
		if n >= b.bound(class, over) || all >= b.room[class] {
			p.seen.Add(n)
			p.shed.Add(1)
			p.turn(now)
			return b.reason(h, class, over)
		}
		more := oneCall
		if lasting {
			more = oneStream
		}
		if p.held.swap(h, h+more) {
			p.seen.Add(n)
			if lasting {
				p.streams.Add(1)
			}
			return ""
		}
	}
}

func (b *bounds) bound(class middleware.Criticality, over bool) int64 {
	if over {
		return b.over[class]
	}
	return b.normal[class]
}

// reason is what made the difference for a call that was turned away.
func (b *bounds) reason(h held, class middleware.Criticality, over bool) Reason {
	n, all := h.calls(), h.used()
	switch {
	case over && n < b.normal[class] && all < b.room[class]:
		return CallerShare
	case n < b.normal[middleware.Critical] && all < b.room[middleware.Critical]:
		return Criticality
	}
	return InFlight
}

// end takes a call out that was let in, and learns from it. It reports whether that
// has closed a window.
func (p *policy) end(now, begun time.Duration, o outcome) (closed bool) {
	p.held.add(-oneCall)
	if int64(begun) < p.settled.Load() {
		return p.turn(now)
	}
	d := int64(max(now-begun, 0))
	// A call that failed or was given up before others are done says nothing about
	// how long those take. One that took longer says that they take at least as
	// long.
	switch {
	case o == served || d > p.recent.Load():
		p.sampled.Add(1)
		p.nanos.Add(d)
		if o == late {
			p.overdue.Add(1)
		}
	case o == late:
		p.late.Add(1)
	}
	return p.turn(now)
}

// endLasting takes a stream out.
func (p *policy) endLasting() { p.held.add(-oneStream) }

// The length of a window: as many calls as say something about the mean, over a time
// in which the limit can have had its effect. Windows that are compared need more.
const (
	minWindow    = 50 * time.Millisecond
	longWindow   = 2 * time.Second
	maxWindow    = 10 * time.Second
	wantCalls    = 40
	compareCalls = 100
	fewCalls     = 10
	firstWindow  = 5 // latencies
)

// due tells whether the window is long enough.
func (p *policy) due(now time.Duration) bool {
	elapsed := now - time.Duration(p.opened.Load())
	if elapsed < minWindow {
		return false
	}
	n := p.sampled.Load()
	if all := n + p.late.Load(); all < fewCalls || elapsed >= maxWindow {
		return elapsed >= maxWindow
	} else if all < p.want.Load() && elapsed < longWindow {
		return false
	}
	latency := max(p.nanos.Load()/max(n, 1), p.recent.Load())
	if p.recent.Load() == 0 { // those that end first are the short ones
		return int64(elapsed) >= firstWindow*latency
	}
	return int64(elapsed) >= latency
}

// turn closes the window, if it is time and nobody else does.
func (p *policy) turn(now time.Duration) (closed bool) {
	if !p.due(now) || !p.mu.TryLock() {
		return false
	}
	defer p.mu.Unlock()
	if !p.due(now) { // another one was faster
		return false
	}
	w := window{
		length: now - time.Duration(p.opened.Swap(int64(now))),
		shed:   float64(p.shed.Swap(0)), late: float64(p.late.Swap(0)), overdue: float64(p.overdue.Swap(0)),
	}
	if w.calls = float64(p.sampled.Swap(0)); w.calls > 0 {
		w.latency = float64(p.nanos.Swap(0)) / w.calls
		p.recent.Store(int64(w.latency))
	}
	w.offered = p.callers.divide(w.length, w.shed)
	there := p.held.load().calls()
	w.rate = (w.offered - w.shed - float64(p.streams.Swap(0)) - float64(there-p.there)) / w.length.Seconds()
	w.inFlight = float64(p.seen.Swap(0)) / max(1, w.offered)
	p.there = there
	p.learned.cap = float64(p.cap)
	if p.learned.learn(now, w) {
		p.settled.Store(int64(now))
	}
	p.want.Store(p.learned.want())
	p.publishLocked()
	return true
}
