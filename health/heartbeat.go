package health

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// noteEvery is how often a heartbeat looks which goroutine it is that beats.
// That costs some microseconds, which a beat by itself does not.
const noteEvery = 100 * time.Millisecond

// heartbeat is a goroutine that has promised to show signs of life.
type heartbeat struct {
	// As it was added.
	name  string
	max   time.Duration
	begun time.Time // what the times below count from

	last      atomic.Int64   // beat
	noted     atomic.Int64   // when the two below were noted, -1 before
	goroutine atomic.Uint64  // that beat then
	caller    atomic.Uintptr // of the beat

	// Guarded by Health.mu.
	overdue bool   // as was told last
	stuck   *Stuck // the last time that it was
}

// Stuck is a heartbeat that became overdue.
type Stuck struct {
	// Name is the heartbeat's.
	Name string
	// Pause is the longest one that is allowed.
	Pause time.Duration
	// Since is the last beat, Found when it was found overdue.
	Since, Found time.Time
	// Function is where the beats came from, "" where there was none.
	Function string
	// Stack is the stack of the goroutine that beat last, as it was at Found,
	// or why there is none.
	Stack string
}

// HeartbeatState is one heartbeat as it is now.
type HeartbeatState struct {
	Name string
	// Pause is the longest one that is allowed.
	Pause time.Duration
	// Beat is the last beat.
	Beat time.Time
	// Overdue says that it is too long ago.
	Overdue bool
	// Function is where the beats come from, "" where there was none yet.
	Function string
	// Stuck is the last time that it was overdue, nil if it never was.
	Stuck *Stuck
}

func (b *heartbeat) beat() {
	now := int64(time.Since(b.begun))
	b.last.Store(now)
	if noted := b.noted.Load(); noted < 0 || now-noted >= int64(noteEvery) {
		b.note(now)
	}
}

// note remembers who beats. It must be called by beat, which its caller calls.
func (b *heartbeat) note(now int64) {
	var caller [1]uintptr
	if runtime.Callers(3, caller[:]) == 1 {
		b.caller.Store(caller[0])
	}
	b.goroutine.Store(goroutineID())
	b.noted.Store(now)
}

// function is where the beats come from.
func (b *heartbeat) function() string {
	pc := b.caller.Load()
	if pc == 0 {
		return ""
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if frame.Function == "runtime.goexit" {
		return "" // the beat was all that its goroutine did
	}
	return frame.Function
}

func (b *heartbeat) lastBeat() time.Time { return b.begun.Add(time.Duration(b.last.Load())) }

func (b *heartbeat) overdueAt(now time.Time) bool { return now.Sub(b.lastBeat()) > b.max }

func (b *heartbeat) result(now time.Time) Result {
	r := Result{Name: b.name, Status: StatusOK, Critical: true, Latency: max(now.Sub(b.lastBeat()), 0), CheckedAt: now}
	if r.Latency > b.max {
		r.Status = StatusDown
		r.Error = fmt.Sprintf("no beat for %v, at most %v is allowed", r.Latency.Round(time.Millisecond), b.max)
		if f := b.function(); f != "" {
			r.Error += "; the last one came from " + f
		}
	}
	return r
}

// Heartbeat watches over a goroutine: the process is not ready while the
// returned function has not been called for longer than pause. The first beat is
// counted at once. It may be added at any time; the name must be new and pause
// above zero.
//
// A heartbeat that becomes overdue is told within 250 ms of that, and the stack
// of the goroutine that called the function last goes to [OnStuck] and into
// [Health.Heartbeats]. Taking it stops the process for as long as it takes to
// write down all stacks, some milliseconds for a thousand goroutines. A
// goroutine that ended without having been replaced is overdue as well.
func (h *Health) Heartbeat(name string, pause time.Duration) (beat func(), err error) {
	if name == "" || pause <= 0 {
		return nil, fmt.Errorf("add heartbeat %q: it needs a name and a longest pause above zero", name)
	}
	b := &heartbeat{name: name, max: pause, begun: time.Now()}
	b.noted.Store(-1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.namedLocked(name) {
		return nil, fmt.Errorf("add heartbeat %q: the name is taken", name)
	}
	h.heartbeats = append(h.heartbeats, b)
	return b.beat, nil
}

// Heartbeats tells the state of every heartbeat, in the order in which they were
// added.
func (h *Health) Heartbeats() []HeartbeatState {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []HeartbeatState
	for _, b := range h.heartbeats {
		out = append(out, HeartbeatState{
			Name: b.name, Pause: b.max, Beat: b.lastBeat(), Overdue: b.overdueAt(now),
			Function: b.function(), Stuck: b.stuck,
		})
	}
	return out
}

// overdueLocked finds the heartbeats that have changed, and those of them that
// have become overdue.
func (h *Health) overdueLocked(now time.Time) (changed []Result, stuck []*heartbeat) {
	for _, b := range h.heartbeats {
		if b.overdueAt(now) == b.overdue {
			continue
		}
		r := b.result(now)
		if (r.Status != StatusOK) == b.overdue {
			continue // it has beaten this very moment
		}
		b.overdue = !b.overdue
		changed = append(changed, r)
		if b.overdue {
			stuck = append(stuck, b)
		}
	}
	return changed, stuck
}

// examine looks where the goroutines of overdue heartbeats are.
func (h *Health) examine(now time.Time, overdue []*heartbeat) {
	if len(overdue) == 0 {
		return
	}
	ids := make([]uint64, len(overdue))
	for i, b := range overdue {
		ids[i] = b.goroutine.Load()
	}
	found := stacks(ids)
	for i, b := range overdue {
		s := &Stuck{
			Name: b.name, Pause: b.max, Since: b.lastBeat(), Found: now, Function: b.function(), Stack: found[ids[i]],
		}
		switch {
		case ids[i] == 0:
			s.Stack = "no goroutine has beaten yet"
		case s.Stack == "":
			s.Stack = fmt.Sprintf("goroutine %d, which beat last, has ended", ids[i])
		}
		h.mu.Lock()
		b.stuck = s
		h.mu.Unlock()
		if h.onStuck != nil {
			h.onStuck(*s)
		}
	}
}
