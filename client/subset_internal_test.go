package client

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/route"
	"plinth.internal/client/subset"
	"plinth.internal/registry"
)

// many is a list of n instances that are up.
func many(n int) []registry.Instance {
	list := make([]registry.Instance, n)
	for i := range list {
		list[i] = registry.Instance{ID: fmt.Sprintf("i-%03d", i), Endpoints: map[string]string{"grpc": fmt.Sprintf("10.0.%d.%d:9000", i/100, i%100)}}
	}
	return list
}

// ids of nodes, sorted.
func ids(nodes []*node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.id)
	}
	slices.Sort(out)
	return out
}

// fresh counts what is in b but not in a.
func fresh(a, b []string) int {
	n := 0
	for _, id := range b {
		if !slices.Contains(a, id) {
			n++
		}
	}
	return n
}

func quarantine(of ...string) map[string]time.Time {
	lost := map[string]time.Time{}
	for _, id := range of {
		lost[id] = time.Unix(1, 0)
	}
	return lost
}

func TestSubsetOfAView(t *testing.T) {
	d := newTestDirectory(t, "grpc")
	d.service.client.options.id = "orders/web-17"
	list := many(200)
	view := func(change func(list []registry.Instance, mine []string) map[string]time.Time) (before, after *view) {
		before = d.view(registry.Snapshot{Instances: list}, nil)
		changed := slices.Clone(list)
		lost := change(changed, ids(before.nodes))
		return before, d.view(registry.Snapshot{Instances: changed, Quarantined: lost}, before)
	}
	drain := func(list []registry.Instance, of ...string) {
		for i := range list {
			if slices.Contains(of, list[i].ID) {
				list[i].State = registry.Draining
			}
		}
	}
	t.Run("twenty of many", func(t *testing.T) {
		v, _ := view(func([]registry.Instance, []string) map[string]time.Time { return nil })
		if len(v.nodes) != subset.DefaultSize || len(v.spares) != 0 || len(v.byAddr) != subset.DefaultSize || v.listed != 200 {
			t.Errorf("%d nodes, %d spares, %d addresses of %d", len(v.nodes), len(v.spares), len(v.byAddr), v.listed)
		}
	})
	t.Run("one of them drains", func(t *testing.T) {
		before, after := view(func(list []registry.Instance, mine []string) map[string]time.Time {
			drain(list, mine[3])
			return nil
		})
		if len(after.nodes) != 20 || fresh(ids(before.nodes), ids(after.nodes)) != 1 || !slices.Equal(ids(after.spares), ids(before.nodes)[3:4]) {
			t.Errorf("%v became %v, spare %v", ids(before.nodes), ids(after.nodes), ids(after.spares))
		}
	})
	t.Run("others drain", func(t *testing.T) {
		before, after := view(func(list []registry.Instance, mine []string) map[string]time.Time {
			for i := range list[:60] {
				if !slices.Contains(mine, list[i].ID) {
					list[i].State = registry.Draining
				}
			}
			return nil
		})
		if !slices.Equal(ids(before.nodes), ids(after.nodes)) || len(after.spares) > 20 {
			t.Errorf("%v became %v, spare %v", ids(before.nodes), ids(after.nodes), ids(after.spares))
		}
	})
	t.Run("one is lost", func(t *testing.T) {
		before, after := view(func(_ []registry.Instance, mine []string) map[string]time.Time { return quarantine(mine[0]) })
		if len(after.nodes) != 20 || fresh(ids(before.nodes), ids(after.nodes)) != 1 || slices.Contains(ids(after.nodes), ids(before.nodes)[0]) {
			t.Errorf("%v became %v", ids(before.nodes), ids(after.nodes))
		}
	})
	t.Run("half are lost", func(t *testing.T) {
		before, after := view(func(list []registry.Instance, _ []string) map[string]time.Time {
			lost := map[string]time.Time{}
			for _, inst := range list[:100] {
				lost[inst.ID] = time.Unix(1, 0)
			}
			return lost
		})
		if !slices.Equal(ids(before.nodes), ids(after.nodes)) {
			t.Errorf("%v became %v: the calls of all that are lost would go to the others", ids(before.nodes), ids(after.nodes))
		}
	})
	t.Run("all drain", func(t *testing.T) {
		before, after := view(func(list []registry.Instance, _ []string) map[string]time.Time {
			for i := range list {
				list[i].State = registry.Draining
			}
			return nil
		})
		if !slices.Equal(ids(before.nodes), ids(after.nodes)) {
			t.Errorf("%v became %v", ids(before.nodes), ids(after.nodes))
		}
	})
	t.Run("most of the rest drain", func(t *testing.T) {
		_, after := view(func(list []registry.Instance, _ []string) map[string]time.Time {
			for i := range list[:140] {
				list[i].State = registry.Draining
			}
			return quarantine(list[150].ID, list[151].ID)
		})
		if len(after.nodes) != 20 {
			t.Errorf("%d are left", len(after.nodes))
		}
	})
}

func TestSubsetSettings(t *testing.T) {
	rules, err := route.New(route.Rule{Name: "canary", Percent: new(5.0), Version: "2"})
	if err != nil {
		t.Fatal(err)
	}
	canaries := many(200)
	for i := range canaries[:12] {
		canaries[i].Version = "2"
	}
	tests := []struct {
		name string
		set  Settings
		list []registry.Instance
		want int
	}{
		{"default", Settings{}, many(51), 20},
		{"not above the threshold", Settings{}, many(50), 50},
		{"off", Settings{Subset: subset.Config{Size: -1}}, many(200), 200},
		{"other numbers", Settings{Subset: subset.Config{Size: 30, Above: 100}}, many(101), 30},
		{"a key's instance is the same for all clients", Settings{Balancer: balancer.NameConsistentHash}, many(200), 200},
		{"not valid", Settings{Subset: subset.Config{Size: 3}}, many(200), 20},
		{"each route has its own", Settings{Routes: rules}, canaries, 32},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newTestDirectory(t, "grpc")
			d.service.place(tt.set)
			v := d.view(registry.Snapshot{Instances: tt.list}, nil)
			if len(v.nodes) != tt.want {
				t.Errorf("%d of %d instances, want %d", len(v.nodes), len(tt.list), tt.want)
			}
		})
	}
}

// TestExplainOutside: who is not in the subset is there, and says so.
func TestExplainOutside(t *testing.T) {
	d := newTestDirectory(t, "grpc").service.grpc // which knows the factor
	d.service.client.options.id, d.service.client.options.zone = "orders/web-17", "a"
	list := many(60)
	for i := range list {
		list[i].Zone = string(rune('a' + i%2))
	}
	snapshot := registry.Snapshot{Instances: list}
	v := d.view(snapshot, nil)
	f := &fleetExplained{policy: balancer.NameAdaptive, list: d.detector.State(time.Now())}
	f.explain(time.Now(), d, snapshot)
	states := map[string]int{}
	factors := map[string]float64{}
	for _, e := range f.instances {
		states[e.State]++
		if e.State == StateOutside && !strings.Contains(e.Why, "not in this client's subset, which is 20 of the 60 instances") {
			t.Errorf("%s says %q", e.ID, e.Why)
		}
		if e.State == StateUp {
			factors[e.Zone] = e.Cost.ZoneFactor
		}
	}
	if want := map[string]int{StateOutside: 40, StateUp: 20}; !maps.Equal(states, want) || len(v.nodes) != 20 {
		t.Errorf("the states are %v, want %v", states, want)
	}
	if want := map[string]float64{"a": 1, "b": balancer.DefaultAwayFactor}; !maps.Equal(factors, want) {
		t.Errorf("the factors of the zones are %v, want %v", factors, want)
	}
	s := &ServiceExplained{Instances: f.instances, Protocols: []ProtocolExplained{f.protocol(d)}, RetryTokens: 20}
	if !strings.Contains(s.why(true), "40 not in this client's subset") {
		t.Errorf("the service says %q", s.why(true))
	}
}

func TestAway(t *testing.T) {
	for _, tt := range []struct {
		own, zone string
		want      bool
	}{{"a", "b", true}, {"a", "a", false}, {"", "b", false}, {"a", "", false}, {"", "", false}} {
		c := &Client{options: options{zone: tt.own}}
		if got := c.away(&registry.Instance{Zone: tt.zone}); got != tt.want {
			t.Errorf("from %q to %q: away is %t", tt.own, tt.zone, got)
		}
	}
}

func TestZoneFactorSettings(t *testing.T) {
	for factor, want := range map[float64]float64{0: 1.3, 1: 1, 2: 2, 0.5: 1.3, -1: 1.3} {
		set := Settings{ZoneFactor: factor}
		if got := newScope(set).zoneFactor; got != want {
			t.Errorf("%v is taken for %v, want %v", factor, got, want)
		}
		if bad := factor != 0 && factor < 1; (set.Validate() != nil) != bad {
			t.Errorf("%v: %v", factor, set.Validate())
		}
	}
}

func TestWhyOfAZone(t *testing.T) {
	f := &fleetExplained{policy: balancer.NameAdaptive, middle: CostExplained{LatencyMS: 1}}
	far := InstanceExplained{Zone: "b", Warm: 1, Weight: 100, State: StateUp, Connection: ConnectionExplained{State: connectionReady, Health: healthServing}}
	far.Cost = CostExplained{LatencyMS: 1, ZoneFactor: 1.3}
	if got, want := f.why(time.Now(), &far), "can be called: it had no call in the last ten seconds, as it is in zone b and a call to it counts 1.3 times"; got != want {
		t.Errorf("it says\n%q, want\n%q", got, want)
	}
	far.Cost.ZoneFactor, far.Cost.Relative = 4, 4
	if got, want := f.why(time.Now(), &far), "others are preferred: a call to it costs 4.0 times the median, as it is in zone b"; got != want {
		t.Errorf("it says\n%q, want\n%q", got, want)
	}
}
