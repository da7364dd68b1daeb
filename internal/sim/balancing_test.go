package sim_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"plinth.internal/internal/sim"
)

var (
	full  = flag.Bool("full", false, "play all scenarios at full length; takes minutes")
	write = flag.Bool("write", false, "with -full: write docs/balancing.md")
)

const document = "../../docs/balancing.md"

// The targets. A peer is what a Go program gets elsewhere.
const (
	targetTail   = 0.45  // of the best peer's p99
	targetErrors = 0.001 // of the calls, without retries
	tie          = 1.1   // differences of a tenth say nothing
)

var peers = []string{"round_robin", "least_req_p2c", "gozero_p2c", "kratos_p2c", "grpc_wrr"}

// cell is what several runs of one scenario with one policy gave: means over the
// seeds.
type cell struct {
	p50, p99, p999  float64 // in milliseconds
	spread          float64 // standard deviation of p99 over the seeds, as a share of it
	errors          float64 // share of the calls
	bounces, probes float64 // for each call
	failed, clients float64
}

// lost is the number of failed calls for each client.
func (c cell) lost() float64 { return c.failed / c.clients }

// job is one cell to be played.
type job struct {
	scenario sim.Scenario
	policy   sim.Policy
	ejection bool
	seeds    int
}

func (j job) key() string { return key(j.scenario.Name, j.policy.Name, j.ejection) }

func key(scenario, policy string, ejection bool) string {
	return fmt.Sprint(scenario, "/", policy, "/", ejection)
}

// play runs the jobs on all cores.
func play(jobs []job) map[string]cell {
	type run struct {
		job  int
		seed int
	}
	queue := make(chan run)
	results := make([][]sim.Result, len(jobs))
	for i, j := range jobs {
		results[i] = make([]sim.Result, j.seeds)
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for r := range queue {
				j := &jobs[r.job]
				result := sim.Run(j.scenario, j.policy, uint64(r.seed+1))
				results[r.job][r.seed] = result
			}
		})
	}
	for i, j := range jobs {
		for seed := range j.seeds {
			queue <- run{i, seed}
		}
	}
	close(queue)
	wg.Wait()
	cells := make(map[string]cell, len(jobs))
	for i, j := range jobs {
		cells[j.key()] = summarize(results[i], float64(j.scenario.Clients))
	}
	return cells
}

func summarize(results []sim.Result, clients float64) cell {
	c := cell{clients: clients}
	n := float64(len(results))
	squares := 0.
	for i := range results {
		r := &results[i]
		calls := float64(r.Calls)
		c.p50 += ms(r.Quantile(0.5)) / n
		c.p99 += ms(r.Quantile(0.99)) / n
		c.p999 += ms(r.Quantile(0.999)) / n
		squares += ms(r.Quantile(0.99)) * ms(r.Quantile(0.99)) / n
		c.errors += r.ErrorShare() / n
		c.failed += float64(r.Failed) / n
		c.bounces += float64(r.Bounces) / calls / n
		c.probes += float64(r.Probes) / calls / n
	}
	if n > 1 {
		c.spread = math.Sqrt(max(squares-c.p99*c.p99, 0)*n/(n-1)) / c.p99
	}
	return c
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func scenario(t *testing.T, name string) sim.Scenario {
	t.Helper()
	for _, sc := range sim.Scenarios() {
		if sc.Name == name {
			return sc
		}
	}
	t.Fatalf("there is no scenario %s", name)
	return sim.Scenario{}
}

func policy(t *testing.T, name string, ejection bool) sim.Policy {
	t.Helper()
	for _, p := range append(rivals(ejection), ours(ejection)...) {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no policy %s", name)
	return sim.Policy{}
}

// TestBalancing holds the default, as it is shipped, against its targets. The
// runs are the same on every machine: a change here is a change of the code.
func TestBalancing(t *testing.T) {
	if *full {
		balancingInFull(t)
		return
	}
	seeds, short := 3, func(sc sim.Scenario) sim.Scenario { return sc }
	if sim.Raced {
		seeds = 1
		short = func(sc sim.Scenario) sim.Scenario {
			sc.WarmUp, sc.Measured = 2*time.Second, 3*time.Second
			return sc
		}
	}
	var jobs []job
	add := func(scenario sim.Scenario, name string, ejection bool, seeds int) {
		jobs = append(jobs, job{short(scenario), policy(t, name, ejection), ejection, seeds})
	}
	tails := []string{"antag-70", "onset-3slow10x-70"}
	losses := []string{"blackhole-70", "hang-70"}
	for _, name := range tails {
		for _, peer := range peers {
			add(scenario(t, name), peer, false, seeds)
		}
		add(scenario(t, name), "adaptive", true, seeds)
	}
	for _, name := range losses {
		add(scenario(t, name), "adaptive", true, seeds)
	}
	against := sim.Scenarios()
	if sim.Raced {
		against = nil
	}
	for _, sc := range against {
		n := 1
		if sc.Servers == 3 {
			n = 10 // they are small
		}
		if sc.Name != tails[0] && sc.Name != tails[1] {
			add(sc, "round_robin", false, n)
		}
		if sc.Name != tails[0] && sc.Name != tails[1] && sc.Name != losses[0] && sc.Name != losses[1] {
			add(sc, "adaptive", true, n)
		}
	}
	cells := play(jobs)

	for _, name := range tails {
		peer, best := bestPeer(cells, name)
		got := cells[key(name, "adaptive", true)]
		limit := targetTail
		if sim.Raced {
			limit = 0.7 // three seconds of one seed
		}
		t.Logf("%s: p99 %.0f ms, the best peer %s has %.0f: %.2f", name, got.p99, peer, best.p99, got.p99/best.p99)
		if got.p99 > limit*best.p99 {
			t.Errorf("%s: p99 %.0f ms is %.2f of what %s has, want at most %.2f", name, got.p99, got.p99/best.p99, peer, limit)
		}
	}
	for _, name := range losses {
		got := cells[key(name, "adaptive", true)]
		t.Logf("%s: %.4f%% errors, %.2f for each client", name, 100*got.errors, got.lost())
		if !sim.Raced && got.errors > targetErrors || got.lost() > 2 {
			t.Errorf("%s: %.4f%% of the calls failed, %.2f for each client; want at most %.1f%% and 2", name, 100*got.errors, got.lost(), 100*targetErrors)
		}
	}
	for _, sc := range against {
		worseThanRoundRobin(t, cells, sc.Name, "adaptive", true)
	}
}

func bestPeer(cells map[string]cell, scenario string) (string, cell) {
	name, best := "", cell{p99: math.Inf(1)}
	for _, peer := range peers {
		if c, ok := cells[key(scenario, peer, false)]; ok && c.p99 < best.p99 {
			name, best = peer, c
		}
	}
	return name, best
}

func worseThanRoundRobin(t *testing.T, cells map[string]cell, scenario, policy string, ejection bool) {
	t.Helper()
	base, ok := cells[key(scenario, "round_robin", false)]
	got, here := cells[key(scenario, policy, ejection)]
	if !ok || !here {
		t.Errorf("%s with %s was not played", scenario, policy)
		return
	}
	if got.p99 > tie*base.p99 || got.errors > tie*base.errors+0.0001 {
		t.Errorf("%s: %s has a p99 of %.0f ms and %.3f%% errors, round robin %.0f ms and %.3f%%", scenario, policy, got.p99, 100*got.errors, base.p99, 100*base.errors)
	}
}

func balancingInFull(t *testing.T) {
	start := time.Now()
	var jobs []job
	for _, sc := range sim.Scenarios() {
		seeds := 3
		if sc.Servers == 3 {
			seeds = 30
		}
		for _, ejection := range []bool{false, true} {
			if ejection && sc.Failing+sc.Silent+sc.Slow == 0 && sc.Servers != 3 {
				continue
			}
			for _, p := range append(rivals(ejection), ours(ejection)...) {
				jobs = append(jobs, job{sc, p, ejection, seeds})
			}
		}
	}
	cells := play(jobs)
	for _, sc := range sim.Scenarios() {
		for _, p := range []string{"adaptive", "adaptive, no bounce", "adaptive, no reports", "precise"} {
			worseThanRoundRobin(t, cells, sc.Name, p, false)
		}
	}
	text := render(cells)
	t.Logf("%d cells took %s", len(cells), time.Since(start).Round(time.Second))
	if !*write {
		t.Log(text)
		return
	}
	prose, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(prose), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the tables: it needs the lines %q and %q", document, begin, end)
	}
	if err := os.WriteFile(document, []byte(head+begin+"\n\n"+text+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
