package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/registry"
)

// node is one instance in one list: immutable, with the record of its address.
type node struct {
	id       string
	addr     string
	endpoint *balancer.Endpoint
	rest     *rest
}

// view is one list of the instances that can be picked: immutable.
type view struct {
	service   string
	nodes     []*node
	endpoints []*balancer.Endpoint // parallel to nodes, as the policies want it
	byAddr    map[string]*node
	listed    int
	// err is why there are no nodes.
	err error
	// known is false while no list has ever been had.
	known bool
}

// String keeps grpc from printing the whole view when it traces its updates.
func (v *view) String() string { return fmt.Sprintf("%d instances", len(v.nodes)) }

// directory makes views of one service for one protocol. What it knows of an
// address outlives the views.
type directory struct {
	service, protocol string
	set               balancer.Set
}

func newDirectory(service, protocol string) *directory {
	return &directory{service: service, protocol: protocol}
}

// view turns a registry's list into a view. Instances without an endpoint for
// the protocol are left out, and those that drain too unless all do: then they
// are better than nothing.
func (d *directory) view(kind string, list []registry.Instance, old *view) *view {
	chosen := make(map[string]*registry.Instance, len(list))
	var order []string
	up := 0
	for i := range list {
		inst := &list[i]
		addr := inst.Endpoints[d.protocol]
		if addr == "" {
			continue
		}
		if inst.State != registry.Draining {
			up++
		}
		other := chosen[addr]
		if other == nil {
			order = append(order, addr)
		}
		// After a crash and a restart at the same address both are listed
		// until the lease of the dead one has run out.
		if other == nil || newer(inst, other) {
			chosen[addr] = inst
		}
	}
	v := &view{service: d.service, listed: len(list), known: true, byAddr: make(map[string]*node, len(order))}
	var members []balancer.Member
	for _, addr := range order {
		inst := chosen[addr]
		if up > 0 && inst.State == registry.Draining {
			continue
		}
		n := &node{id: inst.ID, addr: addr}
		if old != nil && old.byAddr[addr] != nil {
			n.rest = old.byAddr[addr].rest
		} else {
			n.rest = &rest{made: time.Now()}
		}
		v.nodes = append(v.nodes, n)
		v.byAddr[addr] = n
		members = append(members, balancer.Member{Addr: addr, Weight: inst.Weight})
	}
	v.endpoints = d.set.Update(members)
	for i, n := range v.nodes {
		n.endpoint = v.endpoints[i]
	}
	if len(v.nodes) == 0 {
		v.err = d.nobody(kind, list)
	}
	return v
}

// newer tells which of two entries for one address is the living one.
func newer(a, b *registry.Instance) bool {
	if (a.State == registry.Draining) != (b.State == registry.Draining) {
		return b.State == registry.Draining
	}
	return a.Started.After(b.Started)
}

// nobody is the error of an empty list.
func (d *directory) nobody(kind string, list []registry.Instance) error {
	if len(list) == 0 {
		return fmt.Errorf("no instance of %q is registered (registry %s): start one, or check the name and the registry's namespace", d.service, kind)
	}
	var ids []string
	for _, inst := range list[:min(len(list), 3)] {
		ids = append(ids, inst.ID)
	}
	return fmt.Errorf("no instance of %q has a %q endpoint (registry %s lists %d: %s): the service must serve %s to be called so",
		d.service, d.protocol, kind, len(list), strings.Join(ids, ", "), d.protocol)
}

// unknown is the view while the registry has never given a list.
func (d *directory) unknown(kind string, since time.Time, err error) *view {
	return &view{service: d.service, err: fmt.Errorf("find instances of %q: registry %s gives no list since %s (%s): check that it runs and is reachable, calls go on by themselves then: %w",
		d.service, kind, since.Format(time.RFC3339), time.Since(since).Round(time.Second), err)}
}

// watch follows the registry until ctx ends and hands each view to apply, from
// one goroutine. A list that was good is kept while the registry fails.
func (s *service) watch(ctx context.Context, d *directory, apply func(*view)) {
	reg, events := s.client.registry, s.client.options.events
	kind := reg.Kind()
	var current *view // the last good one
	var since time.Time
	for snapshot, err := range reg.Watch(ctx, s.name) {
		if err != nil {
			if since.IsZero() {
				since = time.Now()
				failed := ViewFailed{Service: s.name, Protocol: d.protocol, Registry: kind, Err: err}
				if current != nil {
					failed.Kept = len(current.nodes)
				}
				events(failed)
			}
			if current != nil {
				continue
			}
			if len(snapshot.Instances) == 0 {
				apply(d.unknown(kind, since, err))
				continue
			}
		} else {
			since = time.Time{}
		}
		first := current == nil
		current = d.view(kind, snapshot.Instances, current)
		apply(current)
		events(ViewChanged{Service: s.name, Protocol: d.protocol, First: first, Instances: len(current.nodes), Listed: current.listed})
	}
	if current == nil && ctx.Err() == nil && since.IsZero() {
		apply(d.unknown(kind, time.Now(), registry.ErrClosed))
	}
}
