// Package outlier ejects instances whose results are worse than those of the
// rest of their service: a client counts how its own attempts end, keeps the
// instance that fails away from the picks for a while, and lets one real call
// find out whether it is well again. It is a state machine over numbers and
// time.Time; it starts nothing and waits for nothing.
//
// An instance is ejected
//
//   - after Consecutive failures in a row, or
//   - when at least MinCalls outcomes of the last ten seconds are known, at
//     least FailureShare of them are failures, and that is at least Worse more
//     than the share of the rest of the list taken together;
//
// but in neither case if an instance that fails as often as the rest would have
// shown the same by chance. A bad request type that fails everywhere, or an
// outage of what all instances depend on, ejects nobody. For the run of failures
// the rest is judged by its share over the window and by how it did while the
// run lasted, whichever is worse; as many failures in a row are demanded as are
// as unlikely there as Consecutive are at a rate of 2.5 %: at the default of
// five, 9 where a tenth of the rest's calls fail and 27 where half of them do. If
// the rest was called within the window, but not while the run lasted, twice as
// many are demanded; if it was not called at all, the configured run ejects.
//
// Guarantees:
//   - An ejection lasts Base*2^k, k being the number of ejections before it, at
//     most Max. When it is over one call may be sent there, the trial; which
//     one, and how soon, is up to whoever picks, and a policy that compares costs
//     may take thousands of calls to pick an instance that failed. Success
//     returns the instance, failure ejects it again, and a trial that says
//     nothing (the caller gave up) leaves the place to the next call, as one
//     does that takes longer than Max. Of such a one success still counts. A
//     stream has succeeded with its first message ([Record.Answer]).
//   - Only a real call returns an instance. A health check that says OK never
//     does: a process can be deadlocked in its handlers and healthy.
//   - More than MaxEjected of the list, or all of it, is never kept out: when
//     the ejected are more, nobody is kept out until enough have returned.
//   - Attempts that began before an ejection or a return count neither for the
//     trial nor afterwards.
//   - What is known of an instance is keyed by its address and survives every
//     update of the list; another process at the address starts afresh.
//   - Everything may be used concurrently. [Record.Open] takes no lock;
//     [Record.End] holds the record's own mutex for nanoseconds. The others'
//     records are looked at only when a record is suspicious, and where they are
//     many not each time.
package outlier

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is how an attempt ended, as far as its instance is to blame.
type Outcome uint8

const (
	// Ignored says nothing about the instance: the caller gave up, or the
	// attempt never left the client.
	Ignored Outcome = iota
	// Succeeded means that the instance did its work, even if the answer was
	// an error that the caller caused.
	Succeeded
	// Failed means that the instance did not do its work.
	Failed
)

// A comparison with the rest looks at the whole list. After one that ejected
// nobody there is no other for walkPause for each instance beyond the first
// walkFree: a tenth of a second with ten thousand instances, of which the
// comparison takes a small part.
const (
	walkPause = 10 * time.Microsecond
	walkFree  = 100
)

// Member is one entry of a list of instances.
type Member struct {
	// Addr is the address, the key of the instance's record.
	Addr string
	// Started is when the instance at the address says that it started; zero
	// if it does not say. Another value means another process.
	Started time.Time
}

// Detector compares the instances of one service. Use [New].
type Detector struct {
	random func() float64
	config atomic.Pointer[Config]
	lifted atomic.Bool // nobody is kept out

	mu      sync.Mutex
	epoch   time.Time // of the first update, what times are counted from; immutable then
	members map[string]*Record
	all     []*Record // the same, each once: quicker to walk
	ejected int
	vain    time.Duration // when the last comparison was made that ejected nobody
}

// New returns a detector with an empty list. The numbers in [0, 1) that random
// returns jitter the ejections; nil means the runtime's own source, which is
// the right one everywhere but in a test with a fixed seed. It is called
// concurrently. A config that is not valid counts as the default one.
func New(config Config, random func() float64) *Detector {
	if random == nil {
		random = rand.Float64
	}
	d := &Detector{random: random, vain: -time.Hour}
	d.config.Store(config.effective())
	d.lifted.Store(config.Off)
	return d
}

// Configure replaces the config. Ejections that are under way keep their
// length, unless the new config is off. A config that is not valid counts as
// the default one.
func (d *Detector) Configure(config Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config.Store(config.effective())
	if config.Off {
		for _, r := range d.all {
			r.mu.Lock()
			r.resetLocked()
			r.mu.Unlock()
		}
		d.ejected = 0
	}
	d.liftLocked()
}

// Update makes the list hold the members and no others, and returns their
// records in the same order. An address that was there before keeps its record,
// unless another process is there now; an address that is given twice yields
// the same record twice. A record that is gone is forgotten here; attempts that
// are still in flight on it end on it without effect.
func (d *Detector) Update(now time.Time, members []Member) []*Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch.IsZero() {
		d.epoch = now
	}
	next := make(map[string]*Record, len(members))
	d.all = make([]*Record, 0, len(members))
	list := make([]*Record, 0, len(members))
	for _, m := range members {
		r := next[m.Addr]
		if r == nil {
			r = d.members[m.Addr]
			if r == nil || !r.started.Equal(m.Started) {
				r = &Record{detector: d, addr: m.Addr, started: m.Started}
			}
			next[m.Addr] = r
			d.all = append(d.all, r)
		}
		list = append(list, r)
	}
	for addr, r := range d.members {
		if next[addr] != r {
			r.gone = true
		}
	}
	d.ejected = 0
	for _, r := range d.all {
		if r.gate.Load() != 0 {
			d.ejected++
		}
	}
	d.members = next
	d.liftLocked()
	return list
}

// liftLocked decides whether anybody is kept out.
func (d *Detector) liftLocked() {
	d.lifted.Store(d.config.Load().Off || d.panicLocked())
}

func (d *Detector) panicLocked() bool {
	if d.ejected == 0 {
		return false
	}
	n := len(d.all)
	return d.ejected >= n || float64(d.ejected) > d.config.Load().MaxEjected*float64(n)
}

// since is the time on the detector's own scale. It is called where there is a
// record, so that epoch is set.
func (d *Detector) since(now time.Time) time.Duration { return now.Sub(d.epoch) }

// rest is what the list without one record did.
type rest struct {
	calls, failed float64 // over the window
	// For each that was called while the run of the one lasted, how it did
	// then: the sum of the failure rates and their number.
	lately, called float64
}

// demands is the number of failures in a row that ejects one of this company.
func (s rest) demands(consecutive int) float64 {
	if s.called == 0 && s.calls > 0 {
		// The others were well before. Whether they still are is not known, as
		// chance sent all that came since to one; wait a little for a word of them.
		consecutive *= 2
	}
	return demanded(consecutive, max(rate(s.failed, s.calls), s.lately/max(s.called, 1)))
}

// restLocked looks at everybody but r.
func (d *Detector) restLocked(at time.Duration, r *Record, run uint32, runSince time.Duration) rest {
	var sum rest
	for _, other := range d.all {
		if other == r {
			continue
		}
		other.mu.Lock()
		w := &other.window
		w.advance(at)
		sum.calls += float64(w.ok + w.failed)
		sum.failed += float64(w.failed)
		if w.known && w.lastOutcome >= runSince {
			// Its newest outcomes, no more than the run is long. Each record
			// weighs the same, or a few that fail often would hide each other.
			failed, calls := float64(min(w.run, run)), float64(run)
			if w.run < run {
				calls = failed + 1 // the success before its own run
			}
			sum.lately += rate(failed, calls)
			sum.called++
		}
		other.mu.Unlock()
	}
	return sum
}

// judge ejects a suspicious record if it is worse than the rest.
func (d *Detector) judge(now time.Time, r *Record, generation uint32) Change {
	at := d.since(now)
	draw := d.random() // foreign code: not to be called under a lock
	d.mu.Lock()
	defer d.mu.Unlock()
	config := d.config.Load()
	if r.gone || config.Off || len(d.all) < 2 { // nobody is worse than nobody
		return Change{}
	}
	if since := at - d.vain; since >= 0 && since < walkPause*time.Duration(len(d.all)-walkFree) {
		return Change{}
	}
	r.mu.Lock()
	r.window.advance(at)
	w := r.window
	r.mu.Unlock()
	sum := d.restLocked(at, r, w.run, w.runSince)
	var reason Reason
	switch calls, failed := float64(w.ok+w.failed), float64(w.failed); {
	case w.run >= uint32(config.Consecutive) && float64(w.run) >= sum.demands(config.Consecutive):
		reason = ReasonConsecutive
	case sum.calls > 0 && int(calls) >= config.MinCalls && w.share() >= config.FailureShare &&
		w.share() >= sum.failed/sum.calls+config.Worse &&
		chance(failed, calls, rate(sum.failed, sum.calls)) <= tolerated(config.MinCalls):
		reason = ReasonShare
	default:
		d.vain = at
		return Change{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.generation.Load() != generation || r.gate.Load() != 0 {
		return Change{} // another goroutine was faster
	}
	d.ejected++
	return r.ejectLocked(now, config, reason, draw)
}
