package client

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"plinth.internal/client/balancer"
)

// goneFor is how long an instance that left is remembered without a call in flight:
// whoever picked it just before may not have begun the call yet.
const goneFor = 10 * time.Second

// gone are the instances that have left the list, for as long as calls run on them.
// Their records have left with them, so that nobody else knows of these calls.
type gone struct {
	mu  sync.Mutex
	all []goneInstance
}

type goneInstance struct {
	id, addr, version string
	endpoint          *balancer.Endpoint
	left              time.Time
}

// replace remembers what of one list is not in the next one.
func (g *gone) replace(now time.Time, old, next *view) {
	if old == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetLocked(now)
	for addr, n := range old.byAddr {
		known := func(i goneInstance) bool { return i.endpoint == n.endpoint } // another connection has told it
		if next.byAddr[addr] == nil && !slices.ContainsFunc(g.all, known) {
			g.all = append(g.all, goneInstance{id: n.id, addr: addr, version: n.version, endpoint: n.endpoint, left: now})
		}
	}
}

func (g *gone) forgetLocked(now time.Time) {
	g.all = slices.DeleteFunc(g.all, func(i goneInstance) bool {
		return now.Sub(i.left) >= goneFor && i.endpoint.Stats(now).InFlight == 0
	})
}

// explain tells of those that calls run on.
func (g *gone) explain(now time.Time, protocol string) []InstanceExplained {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetLocked(now)
	var all []InstanceExplained
	for _, i := range g.all {
		stats := i.endpoint.Stats(now)
		if stats.InFlight == 0 {
			continue
		}
		all = append(all, InstanceExplained{
			ID: i.id, Protocol: protocol, Addr: i.addr, Version: i.version, Weight: i.endpoint.Weight(), State: StateGone, Warm: 1,
			Picks: i.endpoint.Recent(now).Picks, InFlight: stats.InFlight, Cost: CostExplained{OldestMS: millis(stats.Oldest)},
			Why: fmt.Sprintf("not called: it left the list %s ago, and its calls in flight are %d", short(now.Sub(i.left)), stats.InFlight),
		})
	}
	return all
}

// addGone adds the instances that have left the list. One that the client does not
// keep to any more is listed as outside already.
func (f *fleetExplained) addGone(now time.Time, d *directory) {
	for _, e := range d.gone.explain(now, d.protocol) {
		i := slices.IndexFunc(f.instances, func(o InstanceExplained) bool { return o.State == StateOutside && o.Addr == e.Addr })
		if i >= 0 {
			f.instances[i].InFlight, f.instances[i].Picks = e.InFlight, e.Picks
			continue
		}
		f.instances = append(f.instances, e)
	}
	slices.SortStableFunc(f.instances, func(a, b InstanceExplained) int { return cmp.Compare(a.ID, b.ID) })
}
