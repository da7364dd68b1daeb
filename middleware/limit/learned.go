package limit

import (
	"math"
	"time"
)

// What the limit is learned from.
const (
	// tolerance is how many times its base the latency may be, and slack how much
	// longer it may be in any case: a queue of a few milliseconds is nobody's
	// concern, and short calls come in bursts.
	tolerance = 2.5
	slack     = float64(5 * time.Millisecond)

	// The base follows the latency fast when it falls, and slowly when it rises:
	// what a server under more and more load takes longer is not normal.
	fallTime = 3 * time.Second
	riseTime = 30 * time.Second
	// The latency that it follows is a mean over this time.
	meanTime = 2 * time.Second
	// It rises only when nobody was turned away for this long and half of the
	// limit is free: a queue is not normal.
	calmTime = 5 * time.Second

	// mostGrowth and mostCut bound one step of the limit. Where less than
	// firmShare of the calls are turned away the limit is cut by less.
	mostGrowth = tolerance
	mostCut    = 0.5
	firmShare  = 0.2
	// grows is how many times faster than need be calls must be for the limit to
	// grow at once.
	grows = 1.25
	// regrowth is how fast a limit that is not met returns to its start.
	regrowth = 1.1
	// lateShare is the share of calls whose callers have given up from which on a
	// limit is too high, whatever the base says. How long they would have taken is
	// not known, so they are no evidence either.
	lateShare = 0.1

	// span is how different the calls in flight of two windows must be for them to
	// be compared, and remembered how old the first may be.
	span       = 1.8
	trySpan    = 1.3 // of a try, which may not fill the limit
	remembered = 5 * time.Second
	// A limit that holds calls back for this long is tried at twice its value for
	// one window; without success less and less often. One that holds back a few
	// now and then is tried at once.
	firstTry = 2 * time.Second
	rareTry  = 30 * time.Second

	ceiling = 1e6
)

// window is what was counted in a while.
type window struct {
	length   time.Duration
	calls    float64
	latency  float64 // mean, in nanoseconds; 0 = there were no calls
	inFlight float64 // mean when calls came
	rate     float64 // calls that ended, in a second
	offered  float64
	shed     float64
	late     float64 // calls whose callers gave up, without the calls above
	overdue  float64 // calls whose callers gave up, among those above
}

// ended is how many calls ended in the window.
func (w *window) ended() float64 { return max(1, w.rate*w.length.Seconds()) }

// point is a window that others are compared with.
type point struct {
	at                                    time.Duration
	latency, inFlight, rate, ended, limit float64
}

// learned is the limit and what it was learned from.
type learned struct {
	floor, start float64 // never changed
	limit        float64
	cap          float64 // above the limit, 0 = none
	base         float64 // latency when all is well in nanoseconds, 0 = not known
	waits        float64 // what calls wait for somebody else, as far as that is known
	mean         float64 // of late, while nobody is turned away

	crowded  int           // windows in a row in which calls were turned away
	quiet    time.Duration // how long none was
	calmed   bool          // none was once; before that the base may be that of a queue
	since    time.Duration // when that began, or when a try ended
	tried    time.Duration // when the last try began
	mark     point         // zero = none
	trying   bool          // the limit is twice the mark's, to see what comes of it
	settling bool          // the limit is new: what it does is seen in the window after the next
	patience time.Duration // until the next try
}

func newLearned(floor, start float64) learned {
	return learned{floor: floor, start: start, limit: start, patience: firstTry}
}

// target is the latency up to which calls are not too slow.
func (l *learned) target() float64 {
	u := l.usual()
	return max(tolerance*u, u+slack)
}

// usual is the latency when all is well.
func (l *learned) usual() float64 { return max(l.base, l.waits) }

// baseOf is the base whose target a latency is.
func baseOf(latency float64) float64 {
	return max(min(latency/tolerance, latency-slack), latency/100)
}

// learn takes in a window, and reports whether the limit is another one now.
func (l *learned) learn(now time.Duration, w window) (changed bool) {
	if w.calls == 0 && w.late == 0 {
		l.mark, l.trying, l.crowded = point{}, false, 0
		return false
	}
	if l.base == 0 {
		l.base, l.mean = w.latency, w.latency
	}
	if w.shed == 0 {
		l.calm(w)
		return false
	}
	l.quiet = 0
	if l.crowded++; l.crowded == 1 {
		l.since, l.settling = now, true
	}
	if w.calls > 0 {
		l.base = min(l.base, toward(l.base, w.latency, w.length, fallTime))
		l.waits = min(l.waits, toward(l.waits, w.latency, w.length, fallTime))
	}
	before := l.limit
	step := l.step(now, w)
	l.limit = min(max(l.limit*step, l.floor), ceiling)
	if l.cap > 0 {
		l.limit = min(l.limit, max(l.cap, l.floor))
	}
	// When the limit grows for calls that are fast enough they stay so.
	return l.crowded == 1 || l.trying && l.limit > before || l.limit < 0.95*before
}

// want is how many calls make the next window.
func (l *learned) want() int64 {
	switch {
	case l.base == 0:
		return fewCalls
	case l.crowded > 0:
		return compareCalls
	}
	return wantCalls
}

// calm is a window in which everybody was let in. What the server does then it can
// do: its latency is normal, as far as that rises slowly.
func (l *learned) calm(w window) {
	l.crowded = 0
	l.quiet += w.length
	if !l.trying { // what a higher limit does is not known before it is met
		l.mark = point{}
	}
	l.calmed = true
	if l.quiet > calmTime {
		l.patience = firstTry
	}
	if w.calls == 0 {
		return
	}
	l.mean = toward(l.mean, w.latency, w.length, meanTime)
	switch {
	case l.mean < l.base:
		l.base = toward(l.base, l.mean, w.length, fallTime)
	case l.quiet > calmTime && w.inFlight < l.limit/2:
		l.base = toward(l.base, l.mean, w.length, riseTime)
	}
	l.waits = min(l.waits, toward(l.waits, l.mean, w.length, fallTime))
	if l.limit < l.start {
		l.limit = min(l.start, l.limit*regrowth+1)
	}
}

// toward is a mean that follows values at some pace.
func toward(mean, value float64, length, pace time.Duration) float64 {
	return mean + (1-math.Exp(-float64(length)/float64(pace)))*(value-mean)
}

// step is the factor for the limit after a window in which calls were turned away.
func (l *learned) step(now time.Duration, w window) float64 {
	back := 1.0
	if l.trying {
		back = l.mark.limit / l.limit
	}
	if w.late+w.overdue > lateShare*(w.calls+w.late) {
		if l.trying {
			l.gaveUp(now)
		}
		if w.calls > 0 { // nor can calls usually take as long as their callers wait
			l.base = min(l.base, baseOf(w.latency/2))
			l.waits = min(l.waits, l.base)
		}
		l.mark, l.trying, l.settling = point{}, false, true
		return min(back, mostCut)
	}
	f := l.target() / max(w.latency, 1)
	if l.settling {
		// This window was partly under another limit, or partly without a crowd.
		l.settling = f > grows && !l.trying && l.sure()
		if l.settling {
			return min(f, mostGrowth)
		}
		return 1
	}
	waiting := l.compare(now, w)
	switch {
	case waiting:
		l.patience, l.since, l.trying = firstTry, now, false
		f = l.target() / max(w.latency, 1)
	case l.trying:
		l.gaveUp(now)
		l.trying, l.settling = false, true
		return back
	}
	light := w.shed < firmShare*w.offered || l.tried == 0 && !l.calmed
	switch {
	case f > grows && l.sure():
		f = min(f, mostGrowth)
	case (f < 1.1 || !l.sure()) && (now-l.since >= l.patience || light && (l.tried == 0 || now-l.tried >= l.patience)):
		l.mark, l.trying, l.tried = l.point(now, w), true, now
		f = 2
	case f > 0.8:
		f = math.Sqrt(min(f, 1.1))
	default:
		f = math.Pow(max(f, mostCut), min(1, w.shed/(firmShare*w.offered)))
	}
	l.settling = math.Abs(f-1) > 0.05
	return f
}

// sure reports that the base is not that of a queue which was there from the start.
func (l *learned) sure() bool { return l.calmed || l.waits > 0 }

// gaveUp notes that a higher limit was tried for nothing.
func (l *learned) gaveUp(now time.Duration) {
	l.patience, l.since = min(2*l.patience, rareTry), now
}

func (l *learned) point(now time.Duration, w window) point {
	return point{now, w.latency, max(w.inFlight, 1), w.rate, w.ended(), l.limit}
}

// compare looks at what another number of calls in flight has done to the rate at
// which they end, and reports whether it changed with it: then the calls wait for
// somebody else, and the base is what would remain of the latency with none in
// flight. (The rate says it better than the latency: the first calls that end under
// another limit are the short ones.) A higher limit that did nothing but make the
// calls slower is no reason for a higher base: it was for nothing.
func (l *learned) compare(now time.Duration, w window) (waiting bool) {
	if l.mark == (point{}) || !l.trying && now-l.mark.at > remembered {
		l.mark = l.point(now, w)
		return false
	}
	ratio := max(w.inFlight, 1) / l.mark.inFlight
	if ratio < span && ratio > 1/span && !(l.trying && ratio > trySpan) {
		return false
	}
	// 1 where calls wait for somebody else, 0 where they wait for one another; and
	// by how much that may be chance.
	elasticity, chance := 0.0, 1.0
	if w.rate > 0 && l.mark.rate > 0 {
		elasticity = min(max(math.Log(w.rate/l.mark.rate)/math.Log(ratio), 0), 1)
		chance = math.Sqrt(1/w.ended()+1/l.mark.ended) / math.Abs(math.Log(ratio))
	}
	switch {
	case elasticity-chance > 0.5:
		l.waits = max(l.waits, w.latency*elasticity)
		waiting = true
	case ratio > 1:
		l.waits = min(l.waits, baseOf(l.mark.latency))
	}
	if !l.trying || waiting {
		l.mark = l.point(now, w)
	}
	return waiting
}
