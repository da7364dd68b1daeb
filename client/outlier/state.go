package outlier

import "time"

// Kind says what came of an attempt.
type Kind uint8

const (
	// None means that everything is as it was.
	None Kind = iota
	// Ejected means that the instance is out, or still out.
	Ejected
	// Returned means that the instance is back.
	Returned
)

// Reason says why an instance was ejected or returned, in a word for metrics
// and logs.
type Reason string

// Reasons of a [Change].
const (
	// ReasonConsecutive: too many failures in a row.
	ReasonConsecutive Reason = "consecutive"
	// ReasonShare: too large a share of failures, and much worse than the rest.
	ReasonShare Reason = "share"
	// ReasonTrial: the trial failed, or for a return, succeeded.
	ReasonTrial Reason = "trial"
)

// Change is what came of an attempt. The zero Change is nothing.
type Change struct {
	// Kind is what happened. The other fields mean nothing if it is None.
	Kind Kind
	// Addr is the address of the instance.
	Addr string
	// Reason is why.
	Reason Reason
	// Until is when an ejection is over and a trial may be sent.
	Until time.Time
	// Count is the number of this ejection, or of the one that is over,
	// counted from 1 while they follow each other within [Forget].
	Count int
	// Calls and Failures are the outcomes within [Window] that led to an
	// ejection, and Run the failures in a row; 0 after a trial.
	Calls, Failures, Run int
	// Panic means that after this nobody is kept out, because too many would
	// be.
	Panic bool
}

// State is a reading of one record.
type State struct {
	// Addr is the address of the instance.
	Addr string
	// Ejected means that the instance is out; see Summary.Panic for whether it
	// is kept out.
	Ejected bool
	// Until is when the ejection is over and a trial may be sent; zero if the
	// instance is not ejected.
	Until time.Time
	// Trial means that a trial is in flight.
	Trial bool
	// Count is the number of ejections that followed each other within
	// [Forget].
	Count int
	// Reason is why the last of them happened, "" if Count is 0. Share is the
	// share of failures that led to the first of them.
	Reason Reason
	Share  float64
	// Calls and Failures are the outcomes within [Window], since the last
	// ejection or return.
	Calls, Failures int
	// Run is the number of failures since the last success.
	Run int
}

// State tells what is known of the instance.
func (r *Record) State(now time.Time) State {
	at := r.detector.since(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	w.advance(at)
	s := State{
		Addr: r.addr, Ejected: r.gate.Load() != 0, Trial: r.trialIn, Count: r.count, Reason: r.reason, Share: r.share,
		Calls: int(w.ok + w.failed), Failures: int(w.failed), Run: int(w.run),
	}
	if s.Ejected {
		s.Until = now.Add(r.until - at)
	} else if at-r.back >= Forget {
		s.Count = 0
	}
	if s.Count == 0 {
		s.Reason, s.Share = "", 0
	}
	return s
}

// Summary is a reading of a whole list.
type Summary struct {
	// Total is the number of instances in the list.
	Total int
	// Ejected is how many of them are ejected.
	Ejected int
	// Panic means that so many are ejected that nobody is kept out.
	Panic bool
	// Off means that nobody is ejected because the config says so.
	Off bool
	// Calls and Failures are the outcomes of all of them within [Window].
	Calls, Failures int
}

// State tells what is known of the list. It looks at every record: it is for a
// person or a scrape, not for each call.
func (d *Detector) State(now time.Time) Summary {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Summary{Total: len(d.all), Ejected: d.ejected, Panic: d.panicLocked(), Off: d.config.Load().Off}
	at := d.since(now)
	for _, r := range d.all {
		r.mu.Lock()
		r.window.advance(at)
		s.Calls += int(r.window.ok + r.window.failed)
		s.Failures += int(r.window.failed)
		r.mu.Unlock()
	}
	return s
}
