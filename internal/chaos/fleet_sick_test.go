//go:build linux

package chaos_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// perClient returns how many of the calls each client has at most.
func perClient(calls history) int {
	if each := calls.each(); len(each) > 0 {
		return each[0]
	}
	return 0
}

// returned waits until an instance has half of its fair share again, over two
// seconds, and returns how long after a moment these began.
func (w *fleetWorld) returned(i *instance, from time.Time, within time.Duration) time.Duration {
	const over = 2 * time.Second
	fair := 1 / float64(len(w.workers))
	for {
		pass(w.t, 250*time.Millisecond)
		now := time.Now()
		if since := now.Add(-over); since.After(from) && w.since(since.Add(-workDeadline)).share(since, now, i.seen) >= fair/2 {
			return since.Sub(from)
		}
		if now.Sub(from) > patience(within) {
			return never
		}
	}
}

// silenceRate is fleetRate for what is judged by a share of the traffic: with
// fewer calls the few that every client makes to find out weigh more.
const silenceRate = 400

// testFleetPaused is F04: one instance is stopped, with its connections open,
// and goes on later.
func testFleetPaused(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, rate: silenceRate, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	victim := w.workers[3]
	length := pick(60*time.Second, 15*time.Second)
	stopped := time.Now()
	victim.p.signal(syscall.SIGSTOP)
	pass(t, length)
	side := &fleetSide{fault: "F04: stopped", sick: []*instance{victim}}
	side.share = w.judgeSilence(victim, stopped, time.Now())
	// Connections made later count for nothing: the kernel takes them for a
	// process that is stopped, and nobody answers. Two connections to different
	// instances may begin at the same local address.
	old := map[string]bool{}
	for _, l := range w.ledger.connected(true, time.Time{}, stopped) {
		if l.Addr == victim.seen {
			old[l.Local] = true
		}
	}
	closed, latest := 0, time.Duration(0)
	for _, l := range w.ledger.connected(false, stopped, time.Now()) {
		if l.Addr == victim.seen && old[l.Local] {
			closed++
			latest = max(latest, time.UnixMicro(l.At).Sub(stopped))
		}
	}
	w.judgeClosed(closed, latest)
	continued := time.Now()
	victim.p.signal(syscall.SIGCONT)
	back := w.returned(victim, continued, 30*time.Second)
	side.back = back
	w.timed(back != never, "after CONT at least half of its fair share within 30 s", "after %s", show(back))
	c := victim.count()
	const dropped, came = "work that came before it is dropped, not done", "%d calls done that nobody waited for, %d dropped"
	if w.transport == overNetRPC {
		w.moot("the protocol tells the server neither a deadline nor that the caller has gone", dropped, came, c.Stale, c.Dropped)
	} else {
		w.timed(c.Stale == 0, dropped, came, c.Stale, c.Dropped)
	}
	w.finish(fleetRow{id: "F04", side: side, what: fmt.Sprintf("SIGSTOP one instance for %v, then SIGCONT; half of the calls idempotent", length)})
}

// judgeClosed looks at the connections to an instance that was stopped.
func (w *fleetWorld) judgeClosed(closed int, latest time.Duration) {
	w.t.Helper()
	const limit = 13*time.Second + 200*time.Millisecond
	clients := len(w.callers) * fleetClients
	latest = latest.Round(time.Millisecond)
	if w.transport == overGRPC {
		w.timed(closed == clients && latest <= limit, "its connections are closed within 13 s (and 0.2 s for timers)", "%d of %d, the last one after %v", closed, clients, latest)
		return
	}
	why := "HTTP/1.1 has no ping; a connection ends with the call on it that is given up"
	if w.transport == overNetRPC {
		why = "net/rpc has no ping; a connection that owes an answer for a second ends with the call that is given up then"
	}
	w.moot(why+", and the kernel of a stopped process still acknowledges", "its connections are closed within 13 s", "%d connections of %d clients, the last one after %v", closed, clients, latest)
}

// judgeSilence looks at what an instance that does not answer costs, and returns
// what it gets in fair shares.
func (w *fleetWorld) judgeSilence(victim *instance, from, to time.Time) float64 {
	w.t.Helper()
	calls := w.ledger.made(from.Add(-time.Second), to)
	lost := calls.lost()
	flying := map[int]int{} // by client
	for _, l := range calls.caught(victim.seen, from, from) {
		flying[l.Client]++
	}
	worst, over := 0, 0
	mine := map[int]int{}
	for _, l := range lost {
		mine[l.Client]++
	}
	for c, n := range mine {
		worst = max(worst, n)
		if n > 2+flying[c] {
			over++
		}
	}
	w.outcome(over <= w.mayLose(0), "lost: at most 2 calls per client, and those in flight on it", "%d lost of %d by %d clients, at most %d by one; %d clients over the limit", len(lost), len(calls), len(mine), worst, over)
	share := calls.share(from.Add(2*workDeadline), to, victim.seen)
	w.timed(share < 0.01, "less than 1 % of the traffic goes to it after two deadlines", "%.2f %%", 100*share)
	return share * float64(len(w.workers))
}

// testFleetDeadlock is F33: the handlers of one instance hang while its health
// service says that all is well.
func testFleetDeadlock(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, rate: silenceRate, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	victim := w.workers[3]
	length := pick(60*time.Second, 15*time.Second)
	hung := time.Now()
	victim.p.order("hang")
	pass(t, length)
	w.judgeSilence(victim, hung, time.Now())
	// Whoever is let back in is judged by a real call, one at a time and after
	// pauses that grow. What it hands back at once for being too busy is no trial.
	waited := w.ledger.made(hung.Add(2*workDeadline), time.Now()).where(func(l *line) bool {
		return slices.ContainsFunc(l.Tries, func(one try) bool {
			return one.Addr == victim.seen && one.Took > 10*workTime.Microseconds()
		})
	})
	limit := 1 // one trial after each of the pauses of 5, 10, 20, 40 s that has passed, and one more
	for pause, at := 5*time.Second, 5*time.Second; at < length; at += pause {
		pause *= 2
		limit++
	}
	w.timed(perClient(waited) <= limit, fmt.Sprintf("a healthy health service brings nobody back: at most %d trial calls per client", limit), "%d in all, at most %d by one client", len(waited), perClient(waited))
	well := time.Now()
	victim.p.order("well")
	back := w.returned(victim, well, 30*time.Second)
	w.timed(back != never, "at least half of its fair share within 30 s after the hang", "after %s", show(back))
	w.finish(fleetRow{id: "F33", what: fmt.Sprintf("the handlers of one instance hang for %v, its health service says SERVING; half of the calls idempotent", length)})
}

// testFleetBlackHole is F17: one instance fails everything at once. Half of the
// processes retry, half do not.
func testFleetBlackHole(t *testing.T, g *fleetGroup, code codes.Code) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, tune: func(process int, s *callerSpec) {
		if process%2 == 1 {
			s.Attempts = 1
		}
	}})
	without := func(h history) history {
		return h.where(func(l *line) bool { return l.Client/fleetClients%2 == 1 })
	}
	with := func(h history) history {
		return h.where(func(l *line) bool { return l.Client/fleetClients%2 == 0 })
	}
	victim := w.workers[3]
	length := pick(20*time.Second, 6*time.Second)
	begun := time.Now()
	victim.p.order(fmt.Sprintf("fail %d", code))
	pass(t, length)
	calls := w.ledger.made(begun, time.Now())
	lost := without(calls).lost()
	w.outcome(perClient(lost) <= 5, "without retries: at most 5 lost per client", "at most %d by one client, %d of %d in all", perClient(lost), len(lost), len(without(calls)))
	retried := with(calls).lost()
	w.outcome(len(retried) <= w.mayLose(0), "with retries: 0 lost", "%d of %d", len(retried), len(with(calls)))
	well := time.Now()
	victim.p.order("well")
	back := w.returned(victim, well, 30*time.Second)
	w.timed(back != never, "half of its fair share again within 30 s after the fault", "after %s", show(back))
	var side *fleetSide
	if fault := sameFailure(code, w.transport); fault != "" {
		share := calls.share(begun.Add(time.Second), well, victim.seen) * float64(len(w.workers))
		side = &fleetSide{fault: fault, sick: []*instance{victim}, share: share, back: back}
	}
	w.finish(fleetRow{id: "F17", side: side, variant: code.String(), what: fmt.Sprintf("one instance answers %s within 0.1 ms for %v; half of the clients do not retry", answerOf(code, w.transport), length)})
}

// sameFailure tells which failures are the same over the transports, "" for one
// that there is no counterpart of: over HTTP INTERNAL and UNKNOWN are the same
// status, and over net/rpc every error is UNKNOWN.
func sameFailure(code codes.Code, transport string) string {
	switch {
	case code == codes.Unavailable:
		return "F17: fails at once, says unavailable"
	case code == codes.Internal || transport == overNetRPC:
		return "F17: fails at once"
	}
	return ""
}

// answerOf is what a failure is on the wire.
func answerOf(code codes.Code, transport string) string {
	switch transport {
	case overHTTP:
		return strconv.Itoa(middleware.HTTPStatus(code))
	case overNetRPC:
		return "an error"
	}
	return strings.ToUpper(code.String())
}

// testFleetBadRequests is F18: every instance fails one kind of request.
func testFleetBadRequests(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, tune: func(_ int, s *callerSpec) { s.NonIdempotent, s.Bad = 0.5, 0.1 }})
	begun := time.Now()
	before := w.baseline(begun)
	for _, i := range w.workers {
		i.p.order(fmt.Sprintf("bad %d", codes.Internal))
	}
	pass(t, pick(40*time.Second, 6*time.Second))
	end := time.Now()
	calls := w.ledger.made(begun, end)
	out := w.ledger.told("InstanceEjected", begun, end)
	w.outcome(len(out) == 0, "nobody is ejected", "ejections: %s", reasons(out))
	least := slimmest(calls, begun, end, w.workers) * float64(len(w.workers))
	w.timed(least >= 0.5-scatter(0.5, len(calls)/len(w.workers)), "every instance keeps at least half of its fair share", "the least has %.0f %%", 100*least)
	good := calls.good()
	w.outcome(len(good.lost()) <= w.mayLose(0), "good calls: 0 lost", "%d of %d; %d bad calls", len(good.lost()), len(good), len(calls)-len(good))
	w.timed(good.p(0.99) <= calm(before), "good calls: p99 at most 1.5 x baseline + 5 ms", "%v, baseline %v", good.p(0.99), before.p(0.99))
	w.finish(fleetRow{id: "F18", what: "all instances answer INTERNAL to one kind of request, a tenth of the calls; half of the calls idempotent"})
}

// testFleetCanceled is F27: callers give half of their calls up half way.
func testFleetCanceled(t *testing.T, g *fleetGroup) {
	w := newFleetWorld(t, fleetSpec{etcd: g.etcd, group: g, tune: func(_ int, s *callerSpec) { s.NonIdempotent = 0.5 }})
	begun := time.Now()
	before := w.baseline(begun)
	goroutines, _ := w.ledger.gauge(begun)
	w.everybody("cancel 50")
	length := pick(60*time.Second, 6*time.Second)
	pass(t, length)
	end := time.Now()
	w.everybody("cancel 0")
	pass(t, 2*time.Second)
	calls := w.ledger.made(begun, end)
	canceled := calls.where(func(l *line) bool { return l.Canceled && l.Code == codes.Canceled })
	kept := calls.where(func(l *line) bool { return !l.Canceled })
	out, rejected := w.ledger.told("InstanceEjected", begun, end), w.ledger.told("CallRejected", begun, end)
	w.outcome(len(out) == 0, "nobody is ejected", "ejections: %s", reasons(out))
	w.outcome(len(rejected) == 0, "the breaker rejects nothing", "%d rejections", len(rejected))
	w.outcome(len(kept.lost()) <= w.mayLose(0), "calls that are not given up: 0 lost", "%d of %d; %d were given up", len(kept.lost()), len(kept), len(canceled))
	w.timed(kept.p(0.99) <= calm(before), "and their p99 is at most 1.5 x baseline + 5 ms", "%v, baseline %v", kept.p(0.99), before.p(0.99))
	least := slimmest(calls, begun, end, w.workers) * float64(len(w.workers))
	w.timed(least >= 0.5-scatter(0.5, len(calls)/len(w.workers)), "every instance keeps at least half of its fair share", "the least has %.0f %%", 100*least)
	now, _ := w.ledger.gauge(time.Now())
	w.check(now <= goroutines+goroutines/20+20, "no growth of goroutines", "%d in the clients before, %d after", goroutines, now)
	w.stop()
	busy := int64(0)
	for _, i := range w.workers {
		busy += i.count().Open
	}
	w.check(busy == 0, "calls in flight return to 0 exactly", "%d in the handlers", busy)
	w.finish(fleetRow{id: "F27", side: &fleetSide{fault: "F27: callers give up"}, what: fmt.Sprintf("callers cancel half of the calls, at a random moment of their 5 ms, for %v; half of the calls idempotent", length)})
}
