//go:build linux

package chaos_test

import (
	"slices"
	"time"
)

// census is what the processes of a fleet have open.
type census struct {
	goroutines, conns int // of the clients
	servers           int // goroutines, of the instance that has the most
	open              int64
}

func (w *fleetWorld) census() census {
	w.t.Helper()
	var c census
	c.goroutines, c.conns = w.ledger.gauge(time.Now())
	all := slices.Concat(append(w.tiers, w.workers)...)
	for _, i := range all {
		n := i.count()
		c.servers, c.open = max(c.servers, n.Goroutines), c.open+n.Open
	}
	return c
}

// leavesNothing ends the calls and holds what is left of them to what there was
// before: nothing may stay behind of calls that have ended, well or not.
func (w *fleetWorld) leavesNothing(before census) {
	w.t.Helper()
	w.stop()
	allowed := func(n int) int { return n + n/20 + 20 }
	var c census
	back := func() bool {
		c = w.census()
		return c.goroutines <= allowed(before.goroutines) && c.servers <= allowed(before.servers) && c.conns == before.conns && c.open == 0
	}
	for limit := time.Now().Add(patience(10 * time.Second)); !back() && time.Now().Before(limit); {
		pass(w.t, 200*time.Millisecond)
	}
	w.check(back(), "afterwards nothing is left: no more goroutines, as many connections, no call in a handler",
		"goroutines of the clients %d, then %d, of an instance %d, then %d; connections %d, then %d; %d calls in handlers",
		before.goroutines, c.goroutines, before.servers, c.servers, before.conns, c.conns, c.open)
}
