package balancer_test

import (
	"testing"
	"time"

	"plinth.internal/client/balancer"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestSetKeepsRecordsByAddress(t *testing.T) {
	var set balancer.Set
	first := set.Update(noon, []balancer.Member{{Addr: "a"}, {Addr: "b", Weight: 50}})
	first[0].Begin()

	second := set.Update(noon, []balancer.Member{{Addr: "c"}, {Addr: "a", Weight: 7}, {Addr: "a", Weight: 9}})
	if second[1] != first[0] || second[2] != first[0] {
		t.Fatal("the record of a was not kept")
	}
	if got := second[1].Stats().InFlight; got != 1 {
		t.Errorf("a has %d in flight after the update, want 1", got)
	}
	if got := second[1].Weight(); got != 9 {
		t.Errorf("a has weight %d, want the one given last", got)
	}
	if got := second[0].Weight(); got != balancer.DefaultWeight {
		t.Errorf("c has weight %d, want the default", got)
	}

	third := set.Update(noon, []balancer.Member{{Addr: "b"}})
	if third[0] == first[1] {
		t.Error("the record of b outlived an update without b")
	}
	if got := third[0].Addr(); got != "b" {
		t.Errorf("address is %q", got)
	}
}

func TestEndpointStats(t *testing.T) {
	e := new(balancer.Set).Update(noon, []balancer.Member{{Addr: "a"}})[0]
	steps := []struct {
		outcome balancer.Outcome
		latency time.Duration
		want    balancer.Stats
	}{
		{balancer.Ignored, time.Second, balancer.Stats{}},
		{balancer.Failed, time.Second, balancer.Stats{Calls: 1, Failures: 1}},
		{balancer.Succeeded, 80 * time.Millisecond, balancer.Stats{Calls: 2, Failures: 1, Latency: 80 * time.Millisecond}},
		{balancer.Succeeded, 160 * time.Millisecond, balancer.Stats{Calls: 3, Failures: 1, Latency: 90 * time.Millisecond}},
	}
	for i, s := range steps {
		e.Begin()
		if got := e.Stats().InFlight; got != 1 {
			t.Fatalf("step %d: %d in flight after Begin", i, got)
		}
		e.End(s.outcome, s.latency)
		if got := e.Stats(); got != s.want {
			t.Errorf("step %d: stats are %+v, want %+v", i, got, s.want)
		}
	}
}
