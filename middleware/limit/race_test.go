//go:build race

package limit

// seeds are how many runs of a simulation there are: with the race detector each
// takes ten times as long.
const seeds = 1
