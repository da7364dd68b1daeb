package outlier

import (
	"sync"
	"sync/atomic"
	"time"

	"plinth.internal/internal/backoff"
)

// Record is what a client knows of how the attempts at one address end. It is
// made by [Detector.Update].
type Record struct {
	detector *Detector
	addr     string
	started  time.Time

	// gate is 0 while the instance is in, else when, after the detector's
	// epoch, the next trial may be sent. Written under both locks, or under mu
	// where it stays other than 0.
	gate atomic.Int64
	// generation is the number of ejections and returns. Written like gate.
	generation atomic.Uint32

	gone bool // no longer in the list; guarded by detector.mu

	mu      sync.Mutex
	window  window
	until   time.Duration // when the ejection is over
	back    time.Duration // when the instance returned last
	count   int           // ejections that followed each other within Forget
	reason  Reason        // for the last of them
	share   float64       // of failures, when it was ejected but for a trial
	trial   uint32        // number of the last trial
	trialIn bool          // it has not ended
}

// Addr is the address that the record is about.
func (r *Record) Addr() string { return r.addr }

// Ticket is one attempt; it is given by [Record.Begin] to [Record.End].
type Ticket struct {
	generation uint32
	trial      uint32 // 0 = none
}

// Trial tells whether the attempt decides about the instance's return.
func (t Ticket) Trial() bool { return t.trial != 0 }

// Open reports whether the instance may be picked: it is not ejected, or its
// ejection is over and no trial is in flight, or nobody is kept out.
func (r *Record) Open(now time.Time) bool {
	gate := r.gate.Load()
	return gate == 0 || r.detector.lifted.Load() || int64(r.detector.since(now)) >= gate
}

// Begin records that an attempt is sent to the instance, and makes it the trial
// if one is due. Every Begin must be followed by one [Record.End]. Attempts that
// were picked in the same instant may all be sent; one of them is the trial.
func (r *Record) Begin(now time.Time) Ticket {
	if r.gate.Load() == 0 {
		return Ticket{generation: r.generation.Load()}
	}
	at := r.detector.since(now)
	config := r.detector.config.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := Ticket{generation: r.generation.Load()}
	if gate := r.gate.Load(); gate != 0 && int64(at) >= gate {
		r.trial = max(r.trial+1, 1)
		r.trialIn = true
		t.trial = r.trial
		// A trial that hangs for ever must not keep the instance out for ever.
		r.gate.Store(int64(at + config.Max))
	}
	return t
}

// Answer records that the instance has answered an attempt that goes on: to a trial
// this is a success. Calling it is optional, and the attempt must still have its
// [Record.End], which decides nothing then.
func (r *Record) Answer(now time.Time, t Ticket) Change {
	if !t.Trial() {
		return Change{}
	}
	return r.endTrial(now, t, Succeeded)
}

// End records how an attempt ended, and tells what came of it.
func (r *Record) End(now time.Time, t Ticket, outcome Outcome) Change {
	if t.Trial() {
		return r.endTrial(now, t, outcome)
	}
	if outcome == Ignored {
		return Change{}
	}
	at := r.detector.since(now)
	config := r.detector.config.Load()
	r.mu.Lock()
	if t.generation != r.generation.Load() {
		r.mu.Unlock()
		return Change{}
	}
	w := &r.window
	w.add(at, outcome == Failed)
	suspicious := outcome == Failed && r.gate.Load() == 0 && !config.Off &&
		(w.run >= uint32(config.Consecutive) || int(w.ok+w.failed) >= config.MinCalls && w.share() >= config.FailureShare)
	r.mu.Unlock()
	if !suspicious {
		return Change{}
	}
	return r.detector.judge(now, r, t.generation)
}

func (r *Record) endTrial(now time.Time, t Ticket, outcome Outcome) Change {
	d := r.detector
	draw := 0.0
	if outcome == Failed {
		draw = d.random()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || t.generation != r.generation.Load() {
		return Change{} // others have decided
	}
	if t.trial != r.trial && outcome != Succeeded {
		return Change{} // it took so long that another one is under way, which may be luckier
	}
	r.trialIn = false
	switch outcome {
	case Failed:
		return r.ejectLocked(now, d.config.Load(), ReasonTrial, draw)
	case Succeeded:
		d.ejected--
		return r.returnLocked(now)
	case Ignored:
	}
	r.gate.Store(int64(max(r.until, 1)))
	return Change{}
}

// ejectLocked needs both locks, and the detector's count to be right already.
func (r *Record) ejectLocked(now time.Time, config *Config, reason Reason, draw float64) Change {
	at := r.detector.since(now)
	if r.count > 0 && r.gate.Load() == 0 && at-r.back >= Forget {
		r.count = 0
	}
	length := backoff.Ceiling(config.Base, config.Max, r.count)
	length += time.Duration(float64(length) * Jitter * (2*draw - 1))
	change := Change{Kind: Ejected, Addr: r.addr, Reason: reason, Until: now.Add(length)}
	if w := &r.window; reason != ReasonTrial { // a trial stands for itself
		change.Calls, change.Failures, change.Run = int(w.ok+w.failed), int(w.failed), int(w.run)
		r.share = w.share()
	}
	r.count++
	r.reason, r.until = reason, at+length
	r.trialIn = false
	r.window = window{}
	r.generation.Add(1)
	r.gate.Store(int64(max(r.until, 1)))
	r.detector.liftLocked()
	change.Count, change.Panic = r.count, r.detector.panicLocked()
	return change
}

// returnLocked needs both locks, and the detector's count to be right already.
func (r *Record) returnLocked(now time.Time) Change {
	count := r.count
	r.back = r.detector.since(now)
	r.window = window{}
	r.generation.Add(1)
	r.gate.Store(0)
	r.detector.liftLocked()
	return Change{Kind: Returned, Addr: r.addr, Reason: ReasonTrial, Count: count, Panic: r.detector.panicLocked()}
}

// resetLocked makes the record a new one, but for its window. It needs both
// locks.
func (r *Record) resetLocked() {
	if r.gate.Load() != 0 {
		r.generation.Add(1)
	}
	r.gate.Store(0)
	r.count, r.trialIn = 0, false
}
