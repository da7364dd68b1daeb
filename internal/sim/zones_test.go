package sim_test

import (
	"testing"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/internal/sim"
)

// targetZones is how much longer p99 may be where zones matter, and
// targetSlowZone where the zone has become slow and there is room elsewhere: its
// clients look more often whether it is well again than they would without zones.
const (
	targetZones    = 1.1
	targetSlowZone = 1.35
)

// TestZones holds what the zone factor does: calls stay in their zone while all
// is well, and nobody pays for it with the tail when the zone is busy, small or
// slow. What the way to another zone takes is not in the model, so that zones can
// only cost something here; and a call's time varies as much as it is long, which
// makes idle servers look more unequal than most are.
func TestZones(t *testing.T) {
	t.Parallel()
	thirds := func(i int) int { return i % 3 }
	tenth := func(i int) int { // zone 0 has the last two of twenty
		if i >= 18 {
			return 0
		}
		return 1 + i%2
	}
	last := func(i int) int { // zone 0 has the last seven of twenty
		if i >= 13 {
			return 0
		}
		return 1 + i%2
	}
	one := func(int) int { return 0 }
	tests := []struct {
		name            string
		load            float64
		antagonists     bool
		slow            int // of the last servers, fivefold from the measured time on
		clients, server func(int) int
		least, most     float64 // share of the calls from zone 0 that stay
	}{
		{"three zones, idle", 0.05, false, 0, thirds, thirds, 0.85, 1},
		{"three zones, busy", 0.7, false, 0, thirds, thirds, 0.6, 1},
		{"three zones, antagonists", 0.7, true, 0, thirds, thirds, 0.4, 1},
		{"three zones, nearly full", 0.9, false, 0, thirds, thirds, 0.4, 1},
		{"the zone slow, idle", 0.05, false, 7, thirds, last, 0, 0.35},
		{"the zone slow, busy", 0.5, false, 7, thirds, last, 0, 0.25},
		{"a tenth of the servers, idle", 0.05, false, 0, thirds, tenth, 0.2, 1},
		{"a tenth of the servers, busy", 0.7, false, 0, thirds, tenth, 0.1, 0.5},
		{"a tenth of the servers, antagonists", 0.7, true, 0, thirds, tenth, 0.1, 0.5},
		{"a tenth of the servers, all clients, busy", 0.7, false, 0, one, tenth, 0.08, 0.3},
		{"a tenth of the servers, all clients, nearly full", 0.9, false, 0, one, tenth, 0.08, 0.3},
		{"a tenth of the servers, all clients, antagonists", 0.7, true, 0, one, tenth, 0.08, 0.3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sc := sim.Scenario{
				Clients: 50, Servers: 20, Cores: []int{4}, Load: tt.load, Even: true, Antagonists: tt.antagonists,
				Slow: tt.slow, SlowBy: 5, Sudden: true, WarmUp: 4 * time.Second, Measured: 10 * time.Second,
			}
			if sim.Raced {
				sc.WarmUp, sc.Measured = 2*time.Second, 3*time.Second
			}
			far := func(client, server int) bool { return tt.clients(client) != tt.server(server) }
			mine := func(client int) bool { return tt.clients(client) == 0 }
			with, without := zoned(sc, far, far, mine), zoned(sc, nil, far, mine)
			t.Logf("%.0f %% of the zone's calls stay, %.0f %% without zones; p99 %.1f ms, %.1f ms: %.3f; p50 %.3f",
				100*with.stays, 100*without.stays, with.p99, without.p99, with.p99/without.p99, with.p50/without.p50)
			// Under the race detector the run is too short to say that.
			if !sim.Raced && (with.stays < tt.least || with.stays > tt.most) {
				t.Errorf("%.3f of the calls stay, want %.2f to %.2f", with.stays, tt.least, tt.most)
			}
			limit := targetZones
			if tt.slow > 0 {
				limit = targetSlowZone
			}
			if with.p99 > limit*without.p99 {
				t.Errorf("p99 is %.2f of what it is without zones, want at most %.2f", with.p99/without.p99, limit)
			}
		})
	}
}

type zonedResult struct{ stays, p50, p99 float64 }

// zoned plays a scenario with clients that know the zones, or not. far and mine
// say what is counted.
func zoned(sc sim.Scenario, away, far func(client, server int) bool, mine func(client int) bool) zonedResult {
	var r zonedResult
	seeds := 2.
	if sim.Raced {
		seeds = 1
	}
	for seed := range uint64(seeds) {
		var stayed, all float64
		h := how{
			reports: true, bounce: true, away: away,
			policy: func(e *sim.Env) balancer.Policy { return &balancer.Adaptive{Rand: e.Rand.Uint64} },
			sent: func(now time.Duration, client, server int) {
				if now < sc.WarmUp+sc.Measured/4 || !mine(client) {
					return
				}
				all++
				if !far(client, server) {
					stayed++
				}
			},
		}
		result := sim.Run(sc, sim.Policy{Name: "adaptive", New: func(e *sim.Env) sim.Client { return newProduction(e, h) }}, seed+1)
		r.stays += stayed / all / seeds
		r.p50 += ms(result.Quantile(0.5)) / seeds
		r.p99 += ms(result.Quantile(0.99)) / seeds
	}
	return r
}
