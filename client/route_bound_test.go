package client

import (
	"testing"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/route"
)

// TestRouteBound: the limit is that of the fleet, scaled to what a rule's own
// instances have to do.
func TestRouteBound(t *testing.T) {
	now := time.Now()
	table, err := route.New(route.Rule{Name: "canary", Version: "2"})
	if err != nil {
		t.Fatal(err)
	}
	d := &directory{protocol: "grpc"}
	var nodes []*node
	versions := []string{"1", "1", "1", "1", "2", "2"}
	members := make([]balancer.Member, len(versions))
	for i, version := range versions {
		members[i].Addr = string(rune('a' + i))
		nodes = append(nodes, &node{version: version})
	}
	for i, e := range d.set.Update(now, members) {
		nodes[i].endpoint = e
		load := int64(4)
		if nodes[i].version == "2" {
			load = 40
		}
		e.Report(now, balancer.Report{InFlight: load, Failures: -1})
	}
	fleet, ok := d.set.Bound()
	if !ok {
		t.Fatal("the fleet has no limit")
	}
	book := d.routes.of(table, "grpc")
	if _, ok := d.bound(now, routed{book: book, rule: 0}); ok {
		t.Error("there is a limit before it is known who can be called")
	}
	v := &view{nodes: nodes}
	divided(&v.division, nodes, book, v.part)
	later := now.Add(2 * boundAge)
	canary, ok := d.bound(later, routed{book: book, rule: 0})
	ordinary, fine := d.bound(later, routed{book: book, rule: route.None})
	if !ok || !fine || canary < 40 || ordinary > fleet || ordinary < 4 {
		t.Errorf("the limits are %d (%v) and %d (%v), the fleet's %d", canary, ok, ordinary, fine, fleet)
	}
	if have, ok := d.bound(later, routed{}); !ok || have != fleet {
		t.Errorf("without rules the limit is %d", have)
	}
}

// TestRouteBooks: what was counted is kept while the rules are the same.
func TestRouteBooks(t *testing.T) {
	tables := make([]*route.Table, 3)
	for i, version := range []string{"1", "1", "2"} {
		var err error
		if tables[i], err = route.New(route.Rule{Name: "canary", Version: version}); err != nil {
			t.Fatal(err)
		}
	}
	var books routeBooks
	first := books.of(tables[0], "grpc")
	first.tallies[0].calls.Add(1)
	if books.of(tables[0], "grpc") != first {
		t.Error("the same table has another book")
	}
	if same := books.of(tables[1], "grpc"); same.tallies[0].calls.Load() != 1 || same.table != tables[1] || !same.since.Equal(first.since) {
		t.Error("equal rules have lost the count")
	}
	if other := books.of(tables[2], "grpc"); other.tallies[0].calls.Load() != 0 {
		t.Error("other rules go on with the count")
	}
}
