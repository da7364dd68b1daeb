package dns

import (
	"net/netip"

	"plinth.internal/registry"
)

// target is an address that a name leads to.
type target struct {
	addr   netip.AddrPort
	weight int
}

// assemble makes instances of what was found under each of the names.
func assemble(service string, names []name, found [][]target) registry.List {
	var list registry.List
	at := make(map[netip.Addr][]int) // the instances with this address
	seen := make(map[netip.AddrPort]bool)
	for _, t := range found[0] {
		if seen[t.addr] {
			continue
		}
		seen[t.addr] = true
		inst := registry.Instance{
			ID:        t.addr.Addr().String() + ":" + portOf(t.addr), // without the brackets of IPv6
			Service:   service,
			Endpoints: map[string]string{names[0].protocol: t.addr.String()},
			Weight:    t.weight,
			State:     registry.Up,
		}
		if err := inst.Validate(); err != nil {
			list.Skipped = append(list.Skipped, registry.Skipped{Key: t.addr.String(), Err: err})
			continue
		}
		at[t.addr.Addr()] = append(at[t.addr.Addr()], len(list.Instances))
		list.Instances = append(list.Instances, inst)
	}
	for i, n := range names[1:] {
		ports := make(map[netip.Addr]int)
		for _, t := range found[i+1] {
			ports[t.addr.Addr()]++
		}
		for _, t := range found[i+1] {
			same := at[t.addr.Addr()]
			if len(same) == 1 && ports[t.addr.Addr()] == 1 && t.addr.Port() > 0 {
				list.Instances[same[0]].Endpoints[n.protocol] = t.addr.String()
			}
		}
	}
	return list
}
