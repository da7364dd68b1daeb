//go:build linux

package chaos_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// roll replaces an instance as a deployment does: a signal, and another process in the
// same place when it has ended; or elsewhere, before the old one is told to end. It
// returns the exit code of the old one.
func (w *fleetWorld) roll(n int, elsewhere bool) int {
	w.t.Helper()
	old := w.workers[n]
	p := old.p
	if elsewhere {
		w.workers[n] = w.newInstance(false)
		w.workers[n].start()
		w.workers[n].listens()
		p.terminate()
	} else {
		p.terminate()
		old.start()
		old.listens()
	}
	return p.cmd.ProcessState.ExitCode()
}

// testFleetRolled is F02: a rolling restart of the whole fleet under load.
func testFleetRolled(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	open := w.census()
	rounds, every := len(w.workers), 3*time.Second
	if !*full {
		rounds = 3
	}
	begun := time.Now()
	before := w.baseline(begun)
	var failed []string
	for n := range rounds {
		next := time.Now().Add(every)
		if code := w.roll(n, n%2 == 1); code != 0 {
			failed = append(failed, strconv.Itoa(code))
		}
		pass(t, time.Until(next))
	}
	eventually(t, 20*time.Second, "every client is connected to every instance again", w.connected)
	end := time.Now()
	calls := w.ledger.made(begun, end)
	once, twice := calls.once(), calls.idempotent()
	w.outcome(len(once.lost()) <= w.mayLose(0), "calls that may not be repeated: 0 lost", "%d of %d", len(once.lost()), len(once))
	w.outcome(len(twice.lost()) <= w.mayLose(0), "idempotent calls: 0 lost", "%d of %d", len(twice.lost()), len(twice))
	retried := w.ledger.told("CallRetried", begun, end)
	charged := selected(retried, func(l *line) bool { return !strings.HasPrefix(l.Reason, "unsent") })
	w.outcome(len(charged) <= w.mayLose(0), "no retry is charged to the budget", "%s; %d made of calls that were never sent", reasons(charged), len(retried)-len(charged))
	w.check(len(failed) == 0, "every instance ends with exit code 0", "%d of %d do; others: %s", rounds-len(failed), rounds, strings.Join(failed, ", "))
	was, is := before.p(0.5), calls.p(0.5)
	trip := was - workTime // all of a call that is not the handler's
	slack := pick(0, 2*time.Millisecond)
	criterion := "p50 shifts by at most one round trip"
	if slack > 0 {
		criterion += fmt.Sprintf(" (and %v in the short form)", slack)
	}
	w.timed(is-was <= trip+slack, criterion, "%v, before %v; a round trip is %v", is, was, trip)
	w.leavesNothing(open)
	w.finish(fleetRow{id: "F02", what: fmt.Sprintf(
		"rolling restart: SIGTERM %d of %d instances, one every %v; every other one starts again in the same place, the rest in a new place before the old one stops; half of the calls idempotent",
		rounds, len(w.workers), every)})
}
