// Package sim plays clients that call servers in virtual time, to compare
// policies that choose a server. Its tests drive the production code of
// client/balancer and client/outlier in it, beside rivals whose rules were
// written again from what is published of them; docs/balancing.md holds the
// tables.
//
// The model: calls arrive as a Poisson process and belong to a random client.
// Each client knows only what it has seen itself and what servers told it.
// A call needs processor time, drawn from a bounded Pareto distribution, on a
// server that shares its cores evenly among the calls it has. Servers become
// slow, answer errors or fall silent as the [Scenario] says. Nothing is
// retried, because retries hide what the choice was worth.
//
// Guarantees:
//   - A run depends on nothing but scenario, policy and seed: it gives the same
//     figures on every machine.
//   - All policies meet the same calls and the same slow periods under one
//     seed, so that their figures can be compared in pairs.
//   - A run is single-threaded; runs are independent of one another.
package sim
