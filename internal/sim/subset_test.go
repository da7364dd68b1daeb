package sim_test

import (
	"fmt"
	"testing"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/subset"
	"plinth.internal/internal/sim"
)

// targetSubset is how much longer p99 may be where clients know a tenth of the
// servers.
const targetSubset = 1.15

// TestSubset plays the fleet that subsets are for, and compares with clients that
// know everybody. Package client/subset has the figures of the connections.
func TestSubset(t *testing.T) {
	t.Parallel()
	base := sim.Scenario{Clients: 2000, Servers: 200, Cores: []int{4}, Load: 0.7, WarmUp: 2 * time.Second, Measured: 2 * time.Second}
	if sim.Raced {
		base.Clients, base.Servers, base.WarmUp, base.Measured = 200, 60, 500*time.Millisecond, 500*time.Millisecond
	}
	for _, tt := range []struct {
		name, id    string
		antagonists bool
	}{{"numbered clients", "web-%d", false}, {"strangers", "pod-%d-x", false}, {"strangers, antagonists", "pod-%d-x", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sc := base
			sc.Antagonists = tt.antagonists
			all := sim.Run(sc, subsetted(nil), 1)
			some := sim.Run(sc, subsetted(func(client int) []int {
				addrs := make([]string, sc.Servers)
				for i := range addrs {
					addrs[i] = fmt.Sprintf("10.3.%d.%d:9000", i/100, i%100)
				}
				return subset.Pick(fmt.Sprintf(tt.id, client), addrs, subset.DefaultSize)
			}), 1)
			share := ms(some.Quantile(0.99)) / ms(all.Quantile(0.99))
			t.Logf("%d clients, %d servers: p99 %.0f ms with a subset of %d, %.0f ms without: %.2f; p50 %.1f ms, %.1f ms",
				sc.Clients, sc.Servers, ms(some.Quantile(0.99)), subset.DefaultSize, ms(all.Quantile(0.99)), share,
				ms(some.Quantile(0.5)), ms(all.Quantile(0.5)))
			if share > targetSubset {
				t.Errorf("p99 is %.2f of what it is without a subset, want at most %.2f", share, targetSubset)
			}
			if some.Failed > all.Failed+5+some.Calls/10000 {
				t.Errorf("%d of %d calls failed, %d without a subset", some.Failed, some.Calls, all.Failed)
			}
		})
	}
}

func subsetted(known func(client int) []int) sim.Policy {
	h := how{
		reports: true, bounce: true, subset: known,
		policy: func(e *sim.Env) balancer.Policy { return &balancer.Adaptive{Rand: e.Rand.Uint64} },
	}
	return sim.Policy{Name: "adaptive", New: func(e *sim.Env) sim.Client { return newProduction(e, h) }}
}
