//go:build linux

package chaos_test

import (
	"fmt"
	"testing"
	"time"
)

// testFleetGreedy is F32: one of twenty clients makes ten times the calls of the
// others, which is more than can be served.
func testFleetGreedy(t *testing.T, g *fleetGroup) {
	const servers, load, greed, learning = 2, 0.85, 10, 2 * time.Second
	capacity := capacityOf(servers)
	w := newFleetWorld(t, fleetSpec{group: g, servers: servers, work: pooled, rate: load * capacity, tune: func(process int, s *callerSpec) { s.Named = fmt.Sprintf("caller-%d-", process) }})
	before := w.census()
	begun := time.Now()
	w.callers[0].order(fmt.Sprintf("greed %d", greed))
	pass(t, pick(30*time.Second, 8*time.Second))
	end := time.Now()
	w.callers[0].order("greed 1")
	pass(t, pick(5*time.Second, time.Second))
	w.stop()
	calls := w.ledger.made(begun, end)
	greedy := calls.where(func(l *line) bool { return l.Client == 0 })
	others := calls.where(func(l *line) bool { return l.Client != 0 })
	offered := float64(len(calls)) / end.Sub(begun).Seconds()
	criterion := "the other clients keep at least 99 % goodput"
	lost := others.lost()
	first := len(lost.where(func(l *line) bool { return l.within(begun, begun.Add(learning)) }))
	if !*full { // there the time in which the server learns who asks for too much weighs four times as much
		others = others.where(func(l *line) bool { return !l.within(begun, begun.Add(learning)) })
		lost = others.lost()
		criterion += fmt.Sprintf(" (from %v on in the short form)", learning)
	}
	w.timed(len(lost)*100 <= len(others), criterion, "%.2f %% (%d lost of %d, at most %d by one client; %s); %d were lost in the first %v",
		100-percent(len(lost), len(others)), len(lost), len(others), perClient(lost), lost.codes(), first, learning)
	w.outcome(offered > capacity, "what is offered is more than can be served", "%.0f calls a second of %.0f; the greedy client is served %.0f of %.0f", offered, capacity,
		float64(len(greedy)-len(greedy.lost()))/end.Sub(begun).Seconds(), float64(len(greedy))/end.Sub(begun).Seconds())
	w.leavesNothing(before)
	w.finish(fleetRow{id: "F32", what: fmt.Sprintf(
		"%d instances of %d workers that take %v each, at %.0f %% of what they can; then one client of %d makes %d times as many calls",
		servers, poolWorkers, poolWork, 100*load, len(w.callers)*fleetClients, greed)})
}
