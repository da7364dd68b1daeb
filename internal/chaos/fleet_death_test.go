//go:build linux

package chaos_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// calm returns the longest p99 that still counts as being back to a baseline.
// Two runs of the same thing on a shared machine differ by less.
func calm(baseline history) time.Duration { return baseline.p(0.99)*3/2 + 5*time.Millisecond }

// testFleetKilled is F01: one instance is killed under load and stays dead.
func testFleetKilled(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	victim := w.workers[3]
	killed := time.Now()
	before := w.baseline(killed)
	victim.p.kill()
	gone := time.Now()
	after := w.ttl + pick(15*time.Second, 4*time.Second)
	pass(t, after)
	end := time.Now()

	calls := w.since(killed.Add(-time.Second))
	w.outcome(len(calls.idempotent().lost()) <= w.mayLose(0), "idempotent calls: 0 lost", "%d lost of %d", len(calls.idempotent().lost()), len(calls.idempotent()))
	flying := len(calls.once().caught(victim.seen, killed, gone))
	w.outcome(len(calls.once().lost()) <= w.mayLose(flying), "other calls: lost at most those in flight on it", "%d lost, %d were in flight on it, of %d", len(calls.once().lost()), flying, len(calls.once()))
	late := w.since(killed).tries(gone.Add(50*time.Millisecond), end, victim.seen)
	w.timed(len(late) == 0, "traffic to it stops within 50 ms", "%d attempts after that", len(late))
	settled := w.ledger.made(gone.Add(time.Second), end)
	w.timed(settled.p(0.99) <= calm(before), "p99 back to baseline within 1 s (at most 1.5 x baseline + 5 ms)", "%v, baseline %v", settled.p(0.99), before.p(0.99))
	never := w.since(killed).tries(gone.Add(w.ttl), end, victim.seen)
	w.outcome(len(never) == 0, "never routed to again after its TTL", "%d attempts", len(never))
	share := calls.share(gone.Add(time.Second), end, victim.seen) * float64(len(w.workers))
	w.finish(fleetRow{id: "F01", side: &fleetSide{fault: "F01: killed", sick: []*instance{victim}, share: share}, what: fmt.Sprintf("kill -9 one of %d, no restart; half of the calls idempotent", len(w.workers))})
}

// testFleetCrashLoop is F03: one instance after the other is killed and comes
// back.
func testFleetCrashLoop(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g})
	rounds, every := 2*len(w.workers), 3*time.Second
	if !*full {
		rounds, every = 5, 2*time.Second
	}
	begun := time.Now()
	for i := range rounds {
		next := w.workers[i%len(w.workers)]
		next.p.kill()
		next.start()
		pass(t, every)
	}
	end := time.Now()
	calls := w.ledger.made(begun, end)
	lost := len(calls.lost())
	w.outcome(lost <= w.mayLose(len(calls)/10000), "idempotent calls lost: at most 0.01 %", "%d of %d (%.3f %%)", lost, len(calls), percent(lost, len(calls)))
	broke := len(selected(w.ledger.told("CallGaveUp", begun, end), func(l *line) bool { return contains(l.Reason, "budget") }))
	w.outcome(broke == 0, "the retry budget is never used up", "%d calls gave up for it; %.4f attempts a call", broke, calls.attempts())
	dials := densest(times(w.ledger.connected(true, begun, end)), time.Second)
	limit := len(w.callers) * fleetClients * 3
	w.timed(dials <= limit, "no storm of connections: each client makes at most 3 in any second", "at most %d in a second from %d clients", dials, len(w.callers)*fleetClients)
	w.finish(fleetRow{id: "F03", what: fmt.Sprintf("SIGKILL one instance every %v, %d times; each starts again at once in the same place", every, rounds)})
}

// testFleetScale is F30: a fleet shrinks to one instance and grows again.
func testFleetScale(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	begun := time.Now()
	last := w.workers[0]
	shrink := func() {
		done := make(chan struct{})
		for _, i := range w.workers[1:] {
			go func() {
				i.p.terminate()
				done <- struct{}{}
			}()
		}
		for range w.workers[1:] {
			<-done
		}
	}
	grow := func(size int) (joined time.Time) {
		w.workers = w.workers[:1]
		for len(w.workers) < size {
			i := w.newInstance(false)
			i.start()
			w.workers = append(w.workers, i)
		}
		for _, i := range w.workers {
			i.listens()
		}
		eventually(t, 20*time.Second, "all clients are connected to all instances", func() error {
			want := len(w.callers) * fleetClients
			for _, i := range w.workers {
				if have := w.ledger.open(i.seen); have != want {
					return fmt.Errorf("%d clients are connected to %s, want %d", have, i.seen, want)
				}
			}
			return nil
		})
		return time.Now()
	}
	shrink()
	pass(t, pick(5*time.Second, time.Second))
	calls := w.ledger.made(begun, time.Now())
	w.outcome(len(calls.lost()) <= w.mayLose(0), "10 to 1: no call lost", "%d of %d", len(calls.lost()), len(calls))

	// The last one fails everything for a while: nobody may take it out.
	faulty := time.Now()
	last.p.order(fmt.Sprintf("fail %d", codes.Internal))
	pass(t, 2*time.Second)
	last.p.order("well")
	well := time.Now()
	pass(t, time.Second)
	calls = w.ledger.made(faulty, well).once()
	reached := len(calls.where(func(l *line) bool { return len(l.Tries) > 0 }))
	w.outcome(reached >= len(calls)*99/100, "the last one is never ejected: while it fails, calls still reach it", "%d of %d", reached, len(calls))
	again := w.ledger.made(well.Add(100*time.Millisecond), time.Now())
	w.outcome(len(again.lost()) <= w.mayLose(0), "calls succeed as soon as it is well again", "%d of %d lost", len(again.lost()), len(again))

	sizes := []int{10, 20}
	if !*full {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		grown := time.Now()
		joined := grow(size)
		pass(t, pick(20*time.Second, 15*time.Second))
		end := time.Now()
		calls = w.ledger.made(grown, end)
		what := fmt.Sprintf("1 to %d: ", size)
		w.outcome(len(calls.lost()) <= w.mayLose(0), what+"no call lost", "%d of %d", len(calls.lost()), len(calls))
		fair := 1 / float64(size)
		early := slimmest(calls, joined, joined.Add(3*time.Second), w.workers[1:]) / fair
		few := len(calls.tries(joined, joined.Add(3*time.Second))) / size // what is fair: about a hundred calls
		w.timed(early >= 0.1-2*math.Sqrt(0.1/float64(few)), what+"each new instance gets at least 10 % of its share in the first 3 s (less two standard deviations of the count)", "the least gets %.0f %% of %d calls", 100*early, few)
		late := slimmest(calls, joined.Add(pick(15*time.Second, 12*time.Second)), end, w.workers[1:]) / fair
		w.timed(late >= 0.6, what+"and a full share after 15 s (12 s in the short form; at least 60 % of the mean)", "the least gets %.0f %%", 100*late)
		if size != sizes[len(sizes)-1] {
			shrink()
		}
	}
	w.finish(fleetRow{id: "F30", what: "scale 10 to 1 to 10, and 1 to 20; the last one fails everything (INTERNAL) for 2 s; half of the calls idempotent"})
}

// slimmest returns the smallest share of the attempts among the instances.
func slimmest(calls history, from, to time.Time, of []*instance) float64 {
	least := 1.0
	for _, i := range of {
		least = min(least, calls.share(from, to, i.seen))
	}
	return least
}

// scatter is how far a share of what is fair may be off by chance alone, three
// times its standard deviation, in the short form: there a fair share is a
// hundred calls. At full length a share is what it is.
func scatter(share float64, fair int) float64 {
	if *full {
		return 0
	}
	return 3 * math.Sqrt(share/float64(fair))
}
