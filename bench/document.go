package main

import (
	"fmt"
	"io"
	"strings"
)

// print writes the tables.
func (r *report) print(w io.Writer) error {
	_, err := io.WriteString(w, r.tables())
	return err
}

// document is the whole of docs/performance.md.
func (r *report) document(args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Performance: what Plinth costs

Written by the bench; do not edit. Written on %s by

    cd bench && go run . %s

on %s. Unary echo over gRPC, client and server in two processes on loopback, a closed loop.
Every contender had its turn of %s in each of
%d rounds, in rotating order; figures are medians over the rounds, and "×" is the median of the ratio to %s in the same round. A call that fails
ends the run, so none did. Traces are on and not sampled, logs are written to the null device.

The allocations are held by tests (`+"`bench`"+` and `+"`framework`"+`), the times are not: they depend on the machine.

`, r.began.Format("2 January 2006"), strings.Join(args, " "), machine(), r.plan.window, r.plan.rounds, nameBare)
	b.WriteString(r.tables())
	return b.String()
}

func (r *report) tables() string {
	var b strings.Builder
	r.writeTargets(&b)
	r.writeThroughput(&b)
	r.writeLatency(&b)
	r.writeMemory(&b)
	r.writeFeatures(&b)
	return b.String()
}

// row writes one row of a table; the first one is its head, in which everything
// but the first column is set to the right.
func row(b *strings.Builder, head bool, fields ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(fields, " | "))
	if head {
		fmt.Fprintf(b, "|---|%s\n", strings.Repeat("---:|", len(fields)-1))
	}
}

func (r *report) writeTargets(b *strings.Builder) {
	b.WriteString("## Targets\n\n")
	row(b, true, "target", "limit", "measured", "where it is worst", "met", "goal", "reached")
	for _, t := range targets() {
		v, where, ok := t.measured(r)
		if !ok {
			continue
		}
		f := func(x float64) string { return fmt.Sprintf(t.format, x) }
		row(b, false, t.what, f(t.limit), f(v), where.title(), yes(t.met(v, t.limit)), f(t.goal), yes(t.met(v, t.goal)))
	}
	b.WriteString("\n")
}

func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}

// each writes a table with a row for each contender and a column for each cell.
func (r *report) each(b *strings.Builder, title string, field func(c cell, name string) string) {
	fmt.Fprintf(b, "## %s\n\n", title)
	head := []string{"contender"}
	for _, c := range r.plan.cells {
		head = append(head, c.title())
	}
	row(b, true, head...)
	for i := range r.plan.contenders {
		x := &r.plan.contenders[i]
		if !x.everywhere() {
			continue
		}
		fields := []string{x.name}
		for _, c := range r.plan.cells {
			fields = append(fields, field(c, x.name))
		}
		row(b, false, fields...)
	}
	b.WriteString("\n")
}

func (r *report) writeThroughput(b *strings.Builder) {
	r.each(b, "Calls in a second (×) · CPU time (×)", func(c cell, name string) string {
		return fmt.Sprintf("%.1fk (%.2f) · %.1f µs (%.2f)", r.value(c, name, (*sample).rate)/1000, r.ratio(c, name, (*sample).rate),
			r.value(c, name, (*sample).cpu), r.ratio(c, name, (*sample).cpu))
	})
	b.WriteString("CPU time is that of a call, user and system, both processes together.\n\n")
	for i := range r.plan.contenders {
		if x := &r.plan.contenders[i]; x.everywhere() {
			fmt.Fprintf(b, "- %s: %s\n", x.name, x.about)
		}
	}
	b.WriteString("\n")
}

func (r *report) writeLatency(b *strings.Builder) {
	r.each(b, "Latency: p50 / p99 / p99.9 in µs (p99 ×)", func(c cell, name string) string {
		return fmt.Sprintf("%.0f / %.0f / %.0f (%.2f)", r.value(c, name, p50), r.value(c, name, p99), r.value(c, name, p999), r.ratio(c, name, p99))
	})
}

func (r *report) writeMemory(b *strings.Builder) {
	r.each(b, "Allocations for a call (beyond bare) · bytes (beyond bare) · share of the CPU time that collects garbage", func(c cell, name string) string {
		return fmt.Sprintf("%.0f (%+.1f) · %.0f (%+.0f) · %.0f %%", r.value(c, name, (*sample).allocs), r.added(c, name, (*sample).allocs),
			r.value(c, name, (*sample).bytes), r.added(c, name, (*sample).bytes), 100*r.value(c, name, (*sample).gc))
	})
}

// writeFeatures tells what each feature costs by what is saved without it.
func (r *report) writeFeatures(b *strings.Builder) {
	c := mainCell()
	if !r.has(c, nameAll) {
		return
	}
	fmt.Fprintf(b, "## What a feature costs (%s)\n\n", c.title())
	row(b, true, "contender", "throughput ×", "client µs", "server µs", "CPU µs saved", "allocations saved", "bytes saved", "what is off")
	for i := range r.plan.contenders {
		x := &r.plan.contenders[i]
		if !r.has(c, x.name) || x.everywhere() && x.name != namePlinth {
			continue
		}
		saved := func(of func(*sample) float64) string {
			return fmt.Sprintf("%.1f", r.compare(c, nameAll, x.name, of, difference))
		}
		row(b, false, x.name, fmt.Sprintf("%.2f", r.ratio(c, x.name, (*sample).rate)),
			fmt.Sprintf("%.1f", r.value(c, x.name, (*sample).clientCPU)), fmt.Sprintf("%.1f", r.value(c, x.name, (*sample).serverCPU)),
			saved((*sample).cpu), saved((*sample).allocs), saved((*sample).bytes), x.about)
	}
	b.WriteString(`
What is saved is compared with "all parts" in the same round. Times of a single feature are within the noise of a run unless they are large;
allocations are exact. The adapters, the retry loop, which picks and counts, and the balancer cannot be turned off: they are what calling a service
by its name is. The bounce needs a second instance; it is in plinth-3.
`)
}
