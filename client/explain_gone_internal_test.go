package client

import (
	"testing"
	"time"

	"plinth.internal/client/balancer"
)

// TestGoneIsForgotten: a call that begins just after its instance left is known, and
// what nothing runs on is not remembered for long.
func TestGoneIsForgotten(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var set balancer.Set
	endpoint := set.Update(now, []balancer.Member{{Addr: "a:1"}})[0]
	old := &view{byAddr: map[string]*node{"a:1": {id: "a", addr: "a:1", endpoint: endpoint}}}
	empty := &view{}
	var g gone
	g.replace(now, nil, old)
	g.replace(now, old, empty)
	g.replace(now, old, empty) // by another connection
	if len(g.all) != 1 || len(g.explain(now, "grpc")) != 0 {
		t.Fatalf("remembered are %+v", g.all)
	}
	var call balancer.Call
	endpoint.Begin(now.Add(time.Second), &call)
	late := now.Add(time.Hour)
	if e := g.explain(late, "grpc"); len(e) != 1 || e[0].InFlight != 1 || e[0].ID != "a" || e[0].State != StateGone {
		t.Errorf("while a call runs it says %+v", e)
	}

	f := &fleetExplained{instances: []InstanceExplained{{ID: "a", Addr: "a:1", State: StateOutside}}}
	d := &directory{}
	d.gone.all = g.all
	f.addGone(late, d)
	if len(f.instances) != 1 || f.instances[0].InFlight != 1 {
		t.Errorf("one that is outside the subset now is %+v", f.instances)
	}

	endpoint.End(late, &call, balancer.Succeeded)
	if g.explain(late, "grpc"); len(g.all) != 0 {
		t.Errorf("still remembered are %+v", g.all)
	}
}
