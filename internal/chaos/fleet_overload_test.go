//go:build linux

package chaos_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// testFleetOverload overloads one instance: it is slow, and turns away what comes
// while it is busy, saying that somebody else may be asked.
func testFleetOverload(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, rate: silenceRate})
	victim := w.workers[3]
	length := pick(30*time.Second, 8*time.Second)
	begun := time.Now()
	victim.p.order("slow 20ms")
	victim.p.order("limit 1")
	pass(t, length)
	end := time.Now()
	calls := w.ledger.made(begun, end)
	settled := w.ledger.made(begun.Add(2*time.Second), end)
	fair := 1 / float64(len(w.workers))
	share := settled.share(begun.Add(2*time.Second), end, victim.seen) / fair
	lost := calls.lost()
	shed := lost.where(func(l *line) bool { return l.Code == codes.ResourceExhausted })
	w.outcome(len(lost)-len(shed) <= w.mayLose(0), "no call fails but those that were turned away", "%d of %d", len(lost)-len(shed), len(calls))
	if w.transport == overNetRPC {
		// Nobody can say over net/rpc that another one may be asked.
		w.timed(len(shed) <= len(calls)/100, "turned away for good: at most 1 % of the calls (the protocol cannot invite a retry)", "%d of %d", len(shed), len(calls))
	} else {
		w.outcome(len(shed) <= w.mayLose(0), "what it turns away is answered by another one: 0 lost", "%d of %d", len(shed), len(calls))
	}
	out := w.ledger.told("InstanceEjected", begun, end)
	w.outcome(len(out) == 0, "nobody is ejected for shedding load", "ejections: %s", reasons(out))
	w.timed(share < avoidedShare, "it gets less than half of its fair share after 2 s", "%.0f %%", 100*share)
	well := time.Now()
	victim.p.order("well")
	back := w.returned(victim, well, 30*time.Second)
	w.timed(back != never, "half of its fair share again within 30 s after the overload", "after %s", show(back))
	w.finish(fleetRow{
		id: "overload", side: &fleetSide{fault: "overload", sick: []*instance{victim}, share: share, back: back},
		what: fmt.Sprintf("one instance takes 20 ms more and one call at a time for %v, and answers RESOURCE_EXHAUSTED to the others", length),
	})
}
