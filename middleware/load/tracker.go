package load

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// window is the time constant of what the reports call lately. The mean of
	// one second follows a server that turns slow, and does not jump at a
	// single heavy request as a peak would.
	window = time.Second
	// foldInterval is how often what was counted is put into the means, while
	// there are calls.
	foldInterval = 5 * time.Millisecond
	// unaskedInterval spaces the reports to clients of Plinth's that did not ask
	// for one: they have one instance to call, and may have more in a moment.
	unaskedInterval = 10 * time.Millisecond
	// units are what one call in flight counts as; a stream, which rests for
	// most of its life, counts as a tenth of one.
	units       = 10
	streamUnits = 1
)

// Tracker measures the load of one process. All methods may be called by any
// number of goroutines.
type Tracker struct {
	options options
	born    time.Time // what times are counted from, so that a clock that jumps does no harm

	inFlight atomic.Int64 // in units
	bounced  atomic.Int64
	unasked  atomic.Int64 // when the next report to those that do not ask is due, nanoseconds after born

	// What was counted since the last fold.
	set, setNanos     atomic.Int64 // calls that set the latency
	other, otherNanos atomic.Int64 // calls that do not
	failures          atomic.Int64

	folded  atomic.Int64 // when, nanoseconds after born
	current atomic.Pointer[state]

	mu    sync.Mutex
	means means // guarded by mu
}

// means are sums in which what is t old counts e^(-t/window), and a mean that
// forgets at the same pace.
type means struct {
	at        int64   // nanoseconds after born
	set       float64 // calls that set the latency
	all, busy float64 // all calls, and their nanoseconds
	failed    float64

	latency   float64 // nanoseconds, 0 = none yet
	latencyAt int64   // when it was changed last, nanoseconds after born
}

// add takes in calls that set the latency, after m.set has decayed. They replace
// the share of the mean that is theirs by number or by time, whichever is
// larger: by number a mean of few calls improves fast, by time a server that
// answers seldom because it has turned slow is noticed all the same.
func (m *means) add(now int64, calls, nanos float64) {
	if calls == 0 {
		return
	}
	byNumber := calls / (calls + m.set)
	byTime := 1 - math.Exp(-float64(now-m.latencyAt)/float64(window))
	m.latency += max(byNumber, byTime) * (nanos/calls - m.latency)
	m.latencyAt = now
	m.set += calls
}

// state is what readers see of the means.
type state struct {
	report  Report
	encoded []byte
}

// New builds a tracker. A process needs one.
func New(opts ...Option) *Tracker {
	t := &Tracker{born: time.Now()}
	for _, opt := range opts {
		opt.apply(&t.options)
	}
	t.publishLocked() // nobody else has it yet
	return t
}

// InFlight is the number of calls in flight, health checks and reflection left
// out. Ten streams count as one call.
func (t *Tracker) InFlight() int64 { return t.inFlight.Load() / units }

// Bounced is how many calls were handed back so far.
func (t *Tracker) Bounced() int64 { return t.bounced.Load() }

// Report is the load at this moment.
func (t *Tracker) Report() Report {
	t.fold(time.Since(t.born))
	r := t.current.Load().report
	r.InFlight = t.InFlight()
	return r
}

// count takes in the end of a call. A stream tells nothing about time.
func (t *Tracker) count(code codes.Code, d time.Duration, stream bool) {
	d = max(d, 0)
	failed := failure(code)
	if failed {
		t.failures.Add(1)
	}
	// A call that failed, or was given up, before others are done says nothing
	// about how long those take. One that took longer says that they take at
	// least as long.
	short := d <= t.known(d)
	switch {
	case stream:
		t.other.Add(1)
	case (failed || ended(code)) && short:
		t.other.Add(1)
		t.otherNanos.Add(int64(d))
	default:
		t.set.Add(1)
		t.setNanos.Add(int64(d))
	}
}

// known is the latency that is known, else the one given.
func (t *Tracker) known(otherwise time.Duration) time.Duration {
	if known := t.current.Load().report.Latency; known > 0 {
		return known
	}
	return otherwise
}

// failure tells the outcomes for which the server is to blame. What it does not
// implement is the caller's mistake or a new version's, not a sick server. A
// deadline that has passed was the caller's choice, and the latency has it; told
// as a failure as well, it would make all clients of a slow server run away at
// once, to where the calls are then too many.
func failure(c codes.Code) bool {
	switch c {
	case codes.Internal, codes.Unknown, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// ended tells that the caller's patience is what ended the call, or that it was
// turned away.
func ended(c codes.Code) bool {
	return c == codes.Canceled || c == codes.DeadlineExceeded || c == codes.ResourceExhausted
}

// fold puts what was counted into the means, if it is time and nobody else does.
func (t *Tracker) fold(now time.Duration) {
	if int64(now)-t.folded.Load() < int64(foldInterval) || !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	m := &t.means
	dt := max(int64(now)-m.at, 0)
	if dt < int64(foldInterval) {
		return // another one was faster
	}
	keep := math.Exp(-float64(dt) / float64(window))
	set, setTime := float64(t.set.Swap(0)), float64(t.setNanos.Swap(0))
	other, otherTime := float64(t.other.Swap(0)), float64(t.otherNanos.Swap(0))
	m.at = int64(now)
	m.set *= keep
	m.add(m.at, set, setTime)
	m.all = m.all*keep + set + other
	m.busy = m.busy*keep + setTime + otherTime
	m.failed = m.failed*keep + float64(t.failures.Swap(0))
	t.publishLocked()
	t.folded.Store(int64(now))
}

// publishLocked makes the means visible.
func (t *Tracker) publishLocked() {
	m := &t.means
	r := Report{
		Latency: time.Duration(m.latency),
		// One good call more than there were: a single failure must not look
		// like a server that fails them all.
		Failures: min(m.failed/(m.all+1), 1),
		QPS:      m.all / window.Seconds(),
		EPS:      m.failed / window.Seconds(),
		// By Little's law this is the mean number of calls in flight, here for
		// each processor that Go may use: it exceeds 1 where calls wait, as
		// application_utilization may.
		Utilization: m.busy / float64(window) / float64(runtime.GOMAXPROCS(0)),
	}
	t.current.Store(&state{report: r, encoded: encode(r)})
}

// encoded is the report at this moment in its binary form.
func (t *Tracker) encoded() string { return withInFlight(t.current.Load().encoded, t.InFlight()) }

// due reports whether it is time for a report to somebody who did not ask for
// one, and if so counts this one.
func (t *Tracker) due(now time.Duration) bool {
	next := t.unasked.Load()
	return int64(now) >= next && t.unasked.CompareAndSwap(next, int64(now+unaskedInterval))
}
