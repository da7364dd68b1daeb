//go:build race

package main

// raceEnabled tells that the race detector allocates and counts as well.
const raceEnabled = true
