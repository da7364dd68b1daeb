//go:build linux

package chaos_test

import (
	"testing"
	"time"
)

// testFleetReset is F21: all connections are reset again and again.
func testFleetReset(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{group: g, wires: true})
	rounds, every := 12, 5*time.Second
	if !*full {
		rounds, every = 3, 2*time.Second
	}
	begun := time.Now()
	clients := len(w.callers) * fleetClients
	var slowest time.Duration
	made := 0
	var wires []*wire
	for _, i := range w.workers {
		wires = append(wires, i.wire)
	}
	for range rounds {
		reset := time.Now()
		resetAll(wires...)
		pass(t, every)
		for _, l := range w.ledger.connected(true, reset, time.Now()) {
			made++
			slowest = max(slowest, time.UnixMicro(l.At).Sub(reset))
		}
	}
	end := time.Now()
	calls := w.ledger.made(begun, end)
	w.outcome(len(calls.lost()) <= w.mayLose(0), "idempotent calls: 0 lost", "%d of %d", len(calls.lost()), len(calls))
	w.timed(made == rounds*clients*len(w.workers) && slowest <= 150*time.Millisecond, "connected again within 100 ms and half of that for jitter", "%d of %d connections, the last one after %v", made, rounds*clients*len(w.workers), slowest.Round(time.Millisecond))
	w.finish(fleetRow{id: "F21", what: "a proxy resets (RST) every connection every 5 s"})
}

// testFleetHalfOpen is F22: one connection loses everything, in both directions
// and without a word.
func testFleetHalfOpen(t *testing.T, g *fleetGroup) {
	const perTry = 200 * time.Millisecond
	w := newFleetWorld(t, fleetSpec{group: g, wires: true, tune: func(_ int, s *callerSpec) { s.AttemptTimeout = perTry }})
	victim := w.workers[3]
	begun := time.Now()
	local := victim.wire.lose()
	if local == "" {
		t.Fatal("there is no connection to lose")
	}
	client := -1
	// Connections to other instances may begin at the same local address.
	lossy := func(l line) bool { return l.Local == local && l.Addr == victim.seen }
	for _, l := range w.ledger.connected(true, time.Time{}, begun) {
		if lossy(l) {
			client = l.Client
		}
	}
	var closed time.Duration
	eventually(t, 20*time.Second, "the connection is closed", func() error {
		for _, l := range w.ledger.connected(false, begun, time.Now()) {
			if lossy(l) {
				closed = time.UnixMicro(l.At).Sub(begun)
				return nil
			}
		}
		return errOpen
	})
	pass(t, time.Second)
	w.timed(closed <= 13*time.Second+200*time.Millisecond, "closed within 13 s (and 0.2 s for timers)", "after %v", closed.Round(time.Millisecond))
	calls := w.since(begun)
	mine := calls.where(func(l *line) bool { return l.Client == client })
	w.outcome(len(calls.lost()) <= w.mayLose(0), "idempotent calls: 0 lost, with a deadline of 500 ms and 200 ms for each attempt", "%d of %d", len(calls.lost()), len(calls))
	slowest := mine.p(1)
	w.timed(slowest < workDeadline, "its calls fail over within a deadline", "%d calls of that client, the slowest took %v", len(mine), slowest)
	w.finish(fleetRow{id: "F22", what: "a proxy that keeps one connection open passes nothing on, in both directions"})
}
