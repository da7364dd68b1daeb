//go:build linux

package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// testFleetSlow is F16: one instance, then three of them, take 50 ms more for
// every call.
func testFleetSlow(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, rate: silenceRate})
	length := pick(30*time.Second, 12*time.Second)
	before := w.baseline(time.Now())
	side := &fleetSide{fault: "F16: slow"}
	for _, slow := range [][]*instance{w.workers[3:4], w.workers[3:6]} {
		begun := time.Now()
		for _, i := range slow {
			i.p.order("slow 50ms")
		}
		pass(t, length)
		end := time.Now()
		w.judgeSlow(fmt.Sprintf("%d of %d: ", len(slow), len(w.workers)), slow, before, begun, end)
		var addrs []string
		for _, i := range slow {
			addrs = append(addrs, i.seen)
		}
		share := w.ledger.made(begun.Add(2*time.Second), end).share(begun.Add(2*time.Second), end, addrs...)
		side.sick, side.share = slow, share*float64(len(w.workers))/float64(len(slow))
	}
	if *full {
		well := time.Now()
		for _, i := range side.sick {
			i.p.order("well")
		}
		side.back = w.returned(side.sick[0], well, time.Minute)
	}
	w.finish(fleetRow{id: "F16", side: side, what: fmt.Sprintf("one instance takes 50 ms more for each call, after %v three do", length)})
}

// judgeSlow looks at what slow instances cost and at what they still get.
func (w *fleetWorld) judgeSlow(what string, slow []*instance, before history, begun, end time.Time) {
	w.t.Helper()
	settled := w.ledger.made(begun.Add(2*time.Second), end)
	w.outcome(len(settled.lost()) <= w.mayLose(0), what+"no call lost", "%d of %d", len(settled.lost()), len(settled))
	// What is slow is nearly a hundredth of the calls: of a few thousand it may be
	// more by chance.
	twice := 2 * before.p(0.99)
	slower := settled.where(func(l *line) bool { return !l.Canceled && time.Duration(l.Took)*time.Microsecond >= twice })
	w.timed(len(slower) <= int(float64(len(settled))*(0.01+scatter(0.01, len(settled)))), what+"p99 below twice the baseline after 2 s",
		"%v, baseline %v", settled.p(0.99), before.p(0.99))
	fair := 1 / float64(len(w.workers))
	least, most := 1.0, 0.0
	for _, i := range slow {
		share := settled.share(begun.Add(2*time.Second), end, i.seen) / fair
		least, most = min(least, share), max(most, share)
	}
	// In a few seconds one per cent of a fair share is less than one call.
	w.timed((least >= 0.01 || !*full) && most <= 0.1+scatter(0.1, len(settled)/len(w.workers)), what+"each slow instance keeps a trickle of 1 to 10 % of its fair share", "%.1f to %.1f %%", 100*least, 100*most)
}

// testFleetJitter is F31: what one instance sends arrives late, and some of it
// only after it was sent again.
func testFleetJitter(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{group: g, wires: true})
	victim := w.workers[3]
	length := pick(60*time.Second, 8*time.Second)
	begun := time.Now()
	before := w.baseline(begun)
	const resend = 200 * time.Millisecond // the shortest time-out of Linux' TCP
	victim.wire.delay.Store(new(func() time.Duration {
		d := rand.N(100 * time.Millisecond)
		if rand.Float64() < 0.02 {
			d += resend
		}
		return d
	}))
	pass(t, length)
	end := time.Now()
	w.judgeSlow("", []*instance{victim}, before, begun, end)
	out := w.ledger.told("InstanceEjected", begun, end)
	w.outcome(len(out) == 0, "it is not ejected", "ejections: %s", reasons(out))
	gone := len(w.ledger.connected(false, begun, end))
	w.outcome(gone == 0, "keepalive does not flap", "%d connections lost", gone)
	w.finish(fleetRow{id: "F31", what: fmt.Sprintf("for %v a proxy delays what one instance sends by 0 to 100 ms, and 2 %% of it by 200 ms more (a lost segment)", length)})
}
