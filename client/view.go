package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/outlier"
	"plinth.internal/registry"
)

// node is one instance in one list: immutable, with the record of its address.
type node struct {
	id       string
	addr     string
	home     *directory
	endpoint *balancer.Endpoint
	record   *outlier.Record
	rest     *rest
	pool     *httpPool         // nil over other transports
	version  string            // for rules, as metadata is
	metadata map[string]string // never changed
	// spare is set for an instance that drains while others do not: it gets
	// calls only if none of those can be called.
	spare bool
	// quarantined is set for an instance that the registry has lost: it is
	// called for as long as it answers.
	quarantined bool
}

// view is one list of the instances that can be picked: immutable.
type view struct {
	service *service
	nodes   []*node // those that are not spare
	spares  []*node
	// list has the endpoints of nodes, as the policies want them.
	list   *balancer.List
	byAddr map[string]*node // nodes and spares
	listed int
	// err is why there are no nodes.
	err error
	// known is false while no list has ever been had.
	known bool
	// division is nodes by the rules in use; see divided.
	division atomic.Pointer[division[*view]]
}

// String keeps grpc from printing the whole view when it traces its updates.
func (v *view) String() string { return fmt.Sprintf("%d instances", len(v.nodes)) }

// directory makes views of one service for one protocol. What it knows of an
// address outlives the views.
type directory struct {
	service  *service
	protocol string
	set      balancer.Set
	policies policies
	detector *outlier.Detector
	routes   routeBooks
	size     atomic.Int64          // of the last view: how many can be picked
	nobody   atomic.Pointer[error] // why the last view has no instances, nil if it has some or there was none
	narrowed atomic.Pointer[narrowed]
	gone     gone
}

func newDirectory(s *service, protocol string) *directory {
	return &directory{service: s, protocol: protocol, policies: newPolicies(), detector: outlier.New(outlier.Config{}, nil)}
}

// view turns a registry's list into a view. Instances without an endpoint for
// the protocol are left out, and those that are not in the client's subset. Those
// that drain are spare, unless all drain: then they are better than nothing.
func (d *directory) view(snapshot registry.Snapshot, old *view) *view {
	list := snapshot.Instances
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
	order = d.narrow(order, chosen, snapshot, up)
	v := &view{service: d.service, listed: len(list), known: true, byAddr: make(map[string]*node, len(order))}
	now := time.Now()
	judged := make([]outlier.Member, len(order))
	for i, addr := range order {
		judged[i] = outlier.Member{Addr: addr, Started: chosen[addr].Started}
	}
	records := d.detector.Update(now, judged)
	members := make([]balancer.Member, len(order))
	for i, addr := range order {
		inst := chosen[addr]
		_, lost := snapshot.Quarantined[inst.ID]
		members[i] = balancer.Member{
			Addr: addr, Weight: inst.Weight, Away: d.service.client.away(inst), Started: inst.Started,
			Back: !lost && old.lost(addr), Gate: records[i],
		}
	}
	endpoints := make([]*balancer.Endpoint, 0, len(order))
	for i, endpoint := range d.set.Update(now, members) {
		inst := chosen[order[i]]
		n := &node{
			id: inst.ID, addr: order[i], home: d, endpoint: endpoint, record: records[i],
			version: inst.Version, metadata: inst.Metadata,
			spare: up > 0 && inst.State == registry.Draining,
		}
		_, n.quarantined = snapshot.Quarantined[inst.ID]
		if old != nil && old.byAddr[n.addr] != nil {
			n.rest, n.pool = old.byAddr[n.addr].rest, old.byAddr[n.addr].pool
		} else {
			n.rest = &rest{made: now}
			if d == d.service.http {
				n.pool = &httpPool{service: d.service}
			}
		}
		v.byAddr[n.addr] = n
		if n.spare {
			v.spares = append(v.spares, n)
		} else {
			v.nodes = append(v.nodes, n)
			endpoints = append(endpoints, endpoint)
		}
	}
	v.list = balancer.NewList(endpoints)
	d.gone.replace(now, old, v)
	d.size.Store(int64(len(endpoints)))
	if len(v.nodes) == 0 {
		v.err = d.lack(list)
		d.nobody.Store(&v.err)
	} else {
		d.nobody.Store(nil)
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

// lack is the error of an empty list.
func (d *directory) lack(list []registry.Instance) error {
	name, kind := d.service.name, d.service.kind()
	if len(list) == 0 {
		return fmt.Errorf("no instance of %q is registered (registry %s): start one, or check the name and the registry's namespace", name, kind)
	}
	var ids []string
	for _, inst := range list[:min(len(list), 3)] {
		ids = append(ids, inst.ID)
	}
	return fmt.Errorf("no instance of %q has a %q endpoint (registry %s lists %d: %s): the service must serve %s to be called so",
		name, d.protocol, kind, len(list), strings.Join(ids, ", "), d.protocol)
}

// unknown is the view while the registry has never given a list.
func (d *directory) unknown(since time.Time, err error) *view {
	return &view{service: d.service, err: fmt.Errorf("find instances of %q: registry %s gives no list since %s (%s): check that it runs and is reachable, calls go on by themselves then: %w",
		d.service.name, d.service.kind(), since.Format(time.RFC3339), time.Since(since).Round(time.Second), err)}
}

// outage is what is wrong with a list that is in use.
type outage struct {
	source registry.Source
	at     time.Time // when the list was last known to be right, zero = not known
	err    error     // what the registry says, nil = nothing yet
}

// age says how far a list can be trusted that is not the registry's current
// one; "" for one that is.
func (s *service) age() string {
	o := s.outage.Load()
	if o == nil {
		return ""
	}
	var text string
	ago := time.Since(o.at).Round(time.Second)
	switch o.source {
	case registry.SourceSnapshot:
		text = fmt.Sprintf("; the list is from a snapshot of %s ago, and registry %s gives none", ago, s.kind())
	case registry.SourceFallback:
		text = fmt.Sprintf("; the list is the configured fallback, and registry %s gives none", s.kind())
	default:
		text = fmt.Sprintf("; registry %s silent since %s (%s)", s.kind(), o.at.Format(time.RFC3339), ago)
	}
	if o.err != nil {
		text += fmt.Sprintf(" (%v)", o.err)
	}
	return text
}

// uncallable is the error while none of the known instances can be called.
func (v *view) uncallable(last string) error {
	return fmt.Errorf("none of the %d known instances of %q can be called%s; the last error: %s",
		len(v.byAddr), v.service.name, v.service.age(), last)
}

// lost tells whether the view has an instance at the address that is in quarantine.
// A nil view has none.
func (v *view) lost(addr string) bool {
	if v == nil {
		return false
	}
	n := v.byAddr[addr]
	return n != nil && n.quarantined
}

// drop tells the registry that a node does not answer. It matters only for one
// in quarantine; for others their connections and their records decide.
func (v *view) drop(n *node, reason error) {
	if n.quarantined {
		v.service.client.registry.Drop(v.service.name, n.id, reason)
	}
}

// watch follows the registry until ctx ends and hands each view to apply, one
// after the other. A list that was good is kept while the registry fails.
func (s *service) watch(ctx context.Context, d *directory, apply func(*view)) {
	reg, events := s.client.registry, s.client.options.events
	w := &watcher{service: s, directory: d, apply: apply}
	s.watchers.Store(w, nil)
	defer s.watchers.Delete(w)
	known := false
	var since time.Time // the registry fails
	for snapshot, err := range reg.Watch(ctx, s.name) {
		have := err == nil || snapshot.Source != ""
		if err == nil && snapshot.Source == registry.SourceRegistry {
			s.outage.Store(nil)
		} else {
			s.outage.Store(&outage{source: snapshot.Source, at: snapshot.At, err: err})
		}
		switch {
		case err == nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
			events(ViewFailed{
				Service: s.name, Protocol: d.protocol, Registry: reg.Kind(), Err: err,
				Kept: len(snapshot.Instances), Source: snapshot.Source, At: snapshot.At,
			})
		}
		if !have {
			w.unknown(since, err)
			continue
		}
		// Only this goroutine sets applied, so it may read it.
		if known && sameList(w.applied, snapshot) && err != nil {
			continue // only the error is new
		}
		known = true
		w.take(snapshot)
	}
	if !known && ctx.Err() == nil && since.IsZero() {
		w.unknown(time.Now(), registry.ErrClosed)
	}
}

func sameList(a, b registry.Snapshot) bool {
	return a.Source == b.Source && maps.EqualFunc(a.Quarantined, b.Quarantined, time.Time.Equal) &&
		slices.EqualFunc(a.Instances, b.Instances, registry.Instance.Equal)
}

// View says what a client knows of one service.
type View struct {
	// Service is the name of the service.
	Service string
	// Source says where the list comes from.
	Source registry.Source
	// At is when the registry last confirmed the list: now, while all is well;
	// zero for a fallback.
	At time.Time
	// Up, Draining and Quarantined count the instances. One that is quarantined
	// is in no other count.
	Up, Draining, Quarantined int
}

// Views returns what the client knows of each service that it watches and has a
// list of, sorted by name. A service is watched from its first [Client.Conn] on,
// or over HTTP from the first request.
func (c *Client) Views() []View {
	c.mu.Lock()
	names := slices.Sorted(maps.Keys(c.services))
	c.mu.Unlock()
	var views []View
	for _, name := range names {
		snapshot, ok := c.registry.Current(name)
		if !ok {
			continue
		}
		v := View{Service: name, Source: snapshot.Source, At: snapshot.At, Quarantined: len(snapshot.Quarantined)}
		for _, inst := range snapshot.Instances {
			if _, ok := snapshot.Quarantined[inst.ID]; ok {
				continue
			}
			if inst.State == registry.Draining {
				v.Draining++
			} else {
				v.Up++
			}
		}
		views = append(views, v)
	}
	return views
}
