//go:build linux

package chaos_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// testFleetForeign is F34: instances and callers that know nothing of Plinth
// among those that do.
func testFleetForeign(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{group: g, foreign: []int{7, 8, 9}, tune: func(process int, s *callerSpec) {
		s.Plain = process == 3
	}})
	plain := func(h history) history {
		return h.where(func(l *line) bool { return l.Client/fleetClients == 3 })
	}
	ours := func(h history) history {
		return h.where(func(l *line) bool { return l.Client/fleetClients != 3 })
	}
	foreign := w.workers[7:]
	pass(t, pick(20*time.Second, 3*time.Second))
	begun := time.Now()
	calls := w.baseline(begun)
	w.outcome(len(plain(calls).lost()) <= w.mayLose(0), "a plain client calls all: 0 lost", "%d of %d", len(plain(calls).lost()), len(plain(calls)))
	w.outcome(len(ours(calls).lost()) <= w.mayLose(0), "Plinth's clients call all: 0 lost", "%d of %d", len(ours(calls).lost()), len(ours(calls)))
	fair := 1 / float64(len(w.workers))
	least, most := 1.0, 0.0
	for _, i := range foreign {
		share := ours(calls).share(w.begun, begun, i.seen) / fair
		least, most = min(least, share), max(most, share)
	}
	w.timed(least >= 0.5 && most <= 2, "a foreign instance that is well has between half and twice its fair share", "%.0f to %.0f %%", 100*least, 100*most)

	// What instances do not report, clients must see by themselves.
	foreign[0].p.order("slow 50ms")
	pass(t, pick(15*time.Second, 5*time.Second))
	slowed := time.Now()
	calls = ours(w.ledger.made(begun.Add(2*time.Second), slowed))
	share := calls.share(begun.Add(2*time.Second), slowed, foreign[0].seen) / fair
	w.timed(share <= 0.2, "a slow foreign instance (+50 ms) gets at most 20 % of its fair share after 2 s", "%.1f %%", 100*share)
	foreign[1].p.order(fmt.Sprintf("fail %d", codes.Unknown))
	pass(t, pick(15*time.Second, 5*time.Second))
	calls = ours(w.ledger.made(slowed, time.Now()))
	w.outcome(len(calls.lost()) <= w.mayLose(0), "a foreign black hole (UNKNOWN): 0 lost with retries", "%d of %d", len(calls.lost()), len(calls))
	reached := calls.caught(foreign[1].seen, slowed, time.Now())
	w.outcome(perClient(reached) <= 5+len(w.workers)/2, "and it is avoided: at most 10 attempts per client", "at most %d by one client", perClient(reached))
	w.finish(fleetRow{id: "F34", what: "3 of 10 instances are plain grpc-go (no health service, no load reports), 1 of 4 client processes is plain grpc-go (round_robin); all requests carry unknown headers"})
}
