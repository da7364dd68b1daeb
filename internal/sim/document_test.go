package sim_test

import (
	"fmt"
	"strings"

	"plinth.internal/internal/sim"
)

// What stands between these lines of the document is generated.
const (
	begin = "<!-- tables: begin -->"
	end   = "<!-- tables: end -->"
)

// tables are the scenarios that stand side by side.
var tables = []struct {
	title     string
	ejection  bool
	scenarios []string
}{
	{"Load and speed, no ejector", false, []string{"even-80", "heavytail-80", "antag-70", "antag-90", "hetero2v8-85"}},
	{"Faults, no ejector", false, []string{"one-slow5x-70", "onset-3slow10x-70", "blackhole-70", "hang-70", "badday-60"}},
	{"Faults, with the ejector", true, []string{"one-slow5x-70", "onset-3slow10x-70", "blackhole-70", "hang-70", "badday-60"}},
	{"Number of clients, same load of all together, no ejector", false, []string{"N10-antag-80", "N100-antag-80", "N1000-antag-80"}},
	{"Three servers, ten clients, no ejector", false, []string{"M3-antag-70", "M3-slow5x-60", "M3-blackhole-60", "M3-hang-60"}},
	{"Three servers, ten clients, with the ejector", true, []string{"M3-antag-70", "M3-slow5x-60", "M3-blackhole-60", "M3-hang-60"}},
}

func render(cells map[string]cell) string {
	var b strings.Builder
	renderTargets(&b, cells)
	for _, table := range tables {
		fmt.Fprintf(&b, "### %s\n\n", table.title)
		heading(&b, append([]string{"policy"}, table.scenarios...))
		for _, p := range append(rivals(false), ours(false)...) {
			row := []string{p.Name}
			for _, sc := range table.scenarios {
				row = append(row, cells[key(sc, p.Name, table.ejection)].String())
			}
			line(&b, row)
		}
		b.WriteByte('\n')
	}
	renderCosts(&b, cells)
	return b.String()
}

func (c cell) String() string {
	return fmt.Sprintf("%s / %s / %s / %s", millis(c.p50), millis(c.p99), millis(c.p999), percent(c.errors))
}

func millis(v float64) string {
	switch {
	case v > 999.5:
		return "T"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func percent(share float64) string {
	switch p := 100 * share; {
	case p == 0:
		return "0"
	case p < 0.1:
		return fmt.Sprintf("%.3f", p)
	case p < 1:
		return fmt.Sprintf("%.2f", p)
	case p < 10:
		return fmt.Sprintf("%.1f", p)
	default:
		return fmt.Sprintf("%.0f", p)
	}
}

func heading(b *strings.Builder, cells []string) {
	line(b, cells)
	b.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
}

func line(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// renderTargets says how the default does against what it has to do.
func renderTargets(b *strings.Builder, cells map[string]cell) {
	b.WriteString("### Targets\n\n")
	heading(b, []string{"target", "found"})
	for _, sc := range []string{"antag-70", "onset-3slow10x-70"} {
		peer, best := bestPeer(cells, sc)
		c := cells[key(sc, "adaptive", false)]
		line(b, []string{
			fmt.Sprintf("%s: p99 at most %.2f of the best rule of a Go peer", sc, targetTail),
			fmt.Sprintf("%.2f: %.0f ms, where %s has %.0f ms", c.p99/best.p99, c.p99, peer, best.p99),
		})
	}
	for _, sc := range []string{"blackhole-70", "hang-70"} {
		c := cells[key(sc, "adaptive", true)]
		line(b, []string{
			fmt.Sprintf("%s: at most %.1f %% errors without retries, with the ejector", sc, 100*targetErrors),
			fmt.Sprintf("%s %%, %.2f calls for each client", percent(c.errors), c.lost()),
		})
	}
	worse := []string{}
	for _, sc := range sim.Scenarios() {
		base, c := cells[key(sc.Name, "round_robin", false)], cells[key(sc.Name, "adaptive", false)]
		if c.p99 > tie*base.p99 || c.errors > tie*base.errors+0.0001 {
			worse = append(worse, sc.Name)
		}
	}
	found := "none"
	if len(worse) > 0 {
		found = strings.Join(worse, ", ")
	}
	line(b, []string{"scenarios in which it is worse than round robin (p99 or errors, a tenth is a tie)", found})
	b.WriteByte('\n')
}

// renderCosts says what the better choices cost, and how far to trust them.
func renderCosts(b *strings.Builder, cells map[string]cell) {
	b.WriteString("### Bounces and probes for each call, and the spread of p99\n\n")
	heading(b, []string{"scenario", "bounces, adaptive", "bounces, precise", "probes, precise", "probes, prequal", "spread, adaptive", "spread, kratos_p2c", "spread, oracle"})
	for _, sc := range sim.Scenarios() {
		at := func(policy string) cell { return cells[key(sc.Name, policy, false)] }
		line(b, []string{
			sc.Name,
			fmt.Sprintf("%.3f", at("adaptive").bounces), fmt.Sprintf("%.3f", at("precise").bounces),
			fmt.Sprintf("%.2f", at("precise").probes), fmt.Sprintf("%.1f", at("prequal").probes),
			fmt.Sprintf("%.0f %%", 100*at("adaptive").spread), fmt.Sprintf("%.0f %%", 100*at("kratos_p2c").spread),
			fmt.Sprintf("%.0f %%", 100*at("oracle").spread),
		})
	}
	b.WriteByte('\n')
}
