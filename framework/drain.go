package framework

import (
	"sync"
	"time"
)

// LateCalls are calls that came although callers had been told to go elsewhere.
// They are answered like all others for as long as the listener is open.
type LateCalls struct {
	// Calls is how many there were.
	Calls int64
	// For is the time from when callers were told to the last of them, 0 for
	// none.
	For time.Duration
}

// The ways in which callers are told, in metrics.
const (
	lateMark       = "mark"       // the instance is marked as draining, and its health says so
	lateWithdrawal = "withdrawal" // it is no longer in the registry
)

// lateness measures how long calls keep arriving during a drain.
type lateness struct {
	app *App // whose server counts

	mu        sync.Mutex
	marked    time.Time // zero before the drain
	withdrawn time.Time // zero before the withdrawal, and without one
	before    int64     // calls that came between the two
}

// mark is called when callers have been told of the drain.
func (l *lateness) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marked = time.Now()
	l.app.server.CountArrivals()
}

// withdraw is called when the instance is no longer in the registry.
func (l *lateness) withdraw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.withdrawn = time.Now()
	l.before, _ = l.app.server.Arrivals()
}

// calls are those that came after the mark and after the withdrawal; nil where
// there was none.
func (l *lateness) calls() (mark, withdrawal *LateCalls) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, last := l.app.server.Arrivals()
	if !l.marked.IsZero() {
		mark = late(n, last, l.marked)
	}
	if !l.withdrawn.IsZero() {
		withdrawal = late(n-l.before, last, l.withdrawn)
	}
	return mark, withdrawal
}

func late(calls int64, last, since time.Time) *LateCalls {
	l := &LateCalls{Calls: calls}
	if calls > 0 {
		l.For = max(last.Sub(since), 0)
	}
	return l
}

// measureDrain brings the gauges of a drain up to date.
func (a *App) measureDrain() {
	mark, withdrawal := a.late.calls()
	for after, l := range map[string]*LateCalls{lateMark: mark, lateWithdrawal: withdrawal} {
		if l != nil {
			a.metrics.SetLateCalls(after, l.Calls, l.For)
		}
	}
}

// DrainDocument is what a drain has measured, in a [LifecycleDocument].
type DrainDocument struct {
	// AfterMark are the calls that came after callers were told of the drain, by
	// the draining mark in the registry and by gRPC health.
	AfterMark *LateDocument `json:"after_mark,omitempty"`
	// AfterWithdrawal are those of them that came after the instance was out of
	// the registry; nil before that, and for one that is in none.
	AfterWithdrawal *LateDocument `json:"after_withdrawal,omitempty"`
}

// LateDocument is late calls in a [LifecycleDocument].
type LateDocument struct {
	Calls int64 `json:"calls"`
	// ForMS is the time from when callers were told to the last of them.
	ForMS float64 `json:"for_ms"`
}

func lateDocument(l *LateCalls) *LateDocument {
	if l == nil {
		return nil
	}
	return &LateDocument{Calls: l.Calls, ForMS: milliseconds(l.For)}
}

func (l *lateness) document() *DrainDocument {
	mark, withdrawal := l.calls()
	if mark == nil {
		return nil
	}
	return &DrainDocument{AfterMark: lateDocument(mark), AfterWithdrawal: lateDocument(withdrawal)}
}
