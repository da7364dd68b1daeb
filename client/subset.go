package client

import (
	"fmt"
	"math"
	"os"
	"path/filepath"

	"plinth.internal/client/balancer"
	"plinth.internal/client/route"
	"plinth.internal/client/subset"
	"plinth.internal/registry"
)

// scope is what of the settings decides who may be called at all, and how far
// away they are. It is compared at every call.
type scope struct {
	zoneFactor float64
	subset     subset.Config
	routes     *route.Table
}

func newScope(s Settings) scope {
	p := scope{zoneFactor: s.ZoneFactor, subset: s.Subset, routes: s.Routes}
	if p.zoneFactor == 0 || s.validZoneFactor() != nil {
		p.zoneFactor = balancer.DefaultAwayFactor
	}
	if s.Balancer == balancer.NameConsistentHash {
		// A key's instance must be the same for all clients.
		p.subset = subset.Config{Size: -1}
	}
	return p
}

// validZoneFactor is the error of a factor that is none.
func (s Settings) validZoneFactor() error {
	if s.ZoneFactor == 0 || s.ZoneFactor >= 1 && !math.IsInf(s.ZoneFactor, 0) {
		return nil
	}
	return fmt.Errorf("set ZoneFactor to %v: must be at least 1", s.ZoneFactor)
}

// place takes changed settings into use. A list that is in use is made anew, off
// the path of the call that has found the change.
func (s *service) place(set Settings) {
	have, want := s.scope.Load(), newScope(set)
	if *have != want {
		s.replace(have, want)
	}
}

func (s *service) replace(have *scope, want scope) {
	if !s.scope.CompareAndSwap(have, &want) {
		return
	}
	s.setAwayFactor(want.zoneFactor)
	if want.subset != have.subset || !want.routes.Equal(have.routes) {
		s.watchers.Range(func(w, _ any) bool {
			if w, ok := w.(*watcher); ok {
				s.client.watch(w.again)
			}
			return true
		})
	}
}

// narrowed is what a list lost because the client keeps to a subset.
type narrowed struct {
	outside map[string]bool // addresses
	kept    int             // instances that are left, but for those that drain
	of      int
}

// massLapse is the share of a list above which lost instances are the registry's
// trouble, as it is for [registry.MassLapse]: to give their calls to the others
// would overload those.
const massLapse = 0.3

// narrow returns the addresses that the client keeps to, in their order, of a
// list that may be too large to know all of it.
//
// An instance that drains or is in quarantine is replaced by the next one. One
// that drains stays in the list beside it, spare as without a subset, if the
// client would keep to it otherwise. Where rules name some instances, these and
// the ordinary ones are narrowed each for themselves: a subset of the whole might
// have no canary at all.
func (d *directory) narrow(order []string, chosen map[string]*registry.Instance, snapshot registry.Snapshot, up int) []string {
	d.narrowed.Store(nil)
	scope := d.service.scope.Load()
	total, lost := 0, 0
	draining := func(i int) bool { return up > 0 && chosen[order[i]].State == registry.Draining }
	missing := func(i int) bool {
		_, ok := snapshot.Quarantined[chosen[order[i]].ID]
		return ok
	}
	for i := range order {
		if draining(i) {
			continue
		}
		total++
		if missing(i) {
			lost++
		}
	}
	size := scope.subset.Of(total)
	if size >= total {
		return order
	}
	replace := float64(lost) <= massLapse*float64(total)
	keep := make([]bool, len(order))
	for _, group := range groups(scope.routes, order, chosen) {
		addrs := make([]string, len(group))
		for k, i := range group {
			addrs[k] = order[i]
		}
		left := size
		var spares []int // those in quarantine, better than nobody
		for _, k := range subset.Pick(d.service.client.options.id, addrs, len(addrs)) {
			i := group[k]
			switch {
			case left == 0:
			case draining(i):
				keep[i] = true
			case replace && missing(i):
				spares = append(spares, i)
			default:
				keep[i] = true
				left--
			}
		}
		for _, i := range spares[:min(left, len(spares))] {
			keep[i] = true
		}
	}
	n := &narrowed{outside: map[string]bool{}, of: total}
	kept := make([]string, 0, len(order))
	for i, addr := range order {
		if !keep[i] {
			n.outside[addr] = true
			continue
		}
		kept = append(kept, addr)
		if !draining(i) {
			n.kept++
		}
	}
	d.narrowed.Store(n)
	return kept
}

// groups are the places in the list of the instances that belong together.
func groups(routes *route.Table, order []string, chosen map[string]*registry.Instance) [][]int {
	division := routes.Divide(len(order), func(i int) (string, map[string]string) {
		inst := chosen[order[i]]
		return inst.Version, inst.Metadata
	})
	return append(division.Rules, division.Ordinary)
}

// defaultID is that of a client that was given none: stable over restarts, and
// the same for all processes of a program on a machine.
func defaultID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	program := ""
	if len(os.Args) > 0 {
		program = filepath.Base(os.Args[0])
	}
	return program + "/" + host
}

// explainOutside tells of an instance that the client does not keep to.
func explainOutside(protocol string, inst *registry.Instance, snapshot registry.Snapshot) InstanceExplained {
	e := InstanceExplained{
		ID: inst.ID, Protocol: protocol, Addr: inst.Endpoints[protocol], State: StateOutside, LostAt: snapshot.Quarantined[inst.ID],
		Zone: inst.Zone, Version: inst.Version, Weight: int64(inst.Weight), Warm: 1,
	}
	if e.Weight <= 0 {
		e.Weight = balancer.DefaultWeight
	}
	return e
}
