//go:build !race

package limit

// seeds are how many runs of a simulation there are.
const seeds = 2
