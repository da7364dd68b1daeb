package framework_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// strictEnv, set to "strict", has everything judged whatever else the machine does,
// as in the fault suite.
const strictEnv = "CHAOS_JUDGE"

// The machine is not quiet where less than needIdle of the processors' time was left,
// and programs other than this test had at least mostOthers of it.
const (
	needIdle   = 0.1
	mostOthers = 0.5
)

// processors are the times of all processors, and what this process had of them, in
// the kernel's ticks; zeros where it does not tell.
type processors struct{ idle, own, all float64 }

func readProcessors() (p processors) {
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return processors{}
	}
	line, _, _ := strings.Cut(string(machine), "\n")
	for i, ticks := range numbers(strings.Fields(line)) {
		if i > 8 { // guest time is in user time
			break
		}
		p.all += ticks
		if i == 4 || i == 5 { // idle, and waiting for a disk
			p.idle += ticks
		}
	}
	process, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return processors{}
	}
	_, rest, _ := strings.Cut(string(process), ") ")
	if n := numbers(strings.Fields(rest)); len(n) > 12 {
		p.own = n[11] + n[12] // in user code and in the kernel
	}
	return p
}

// numbers are the fields as numbers, 0 for what is none.
func numbers(fields []string) []float64 {
	out := make([]float64, len(fields))
	for i, f := range fields {
		if _, err := fmt.Sscan(f, &out[i]); err != nil {
			out[i] = 0
		}
	}
	return out
}

// starved reports that other programs had the processors between two readings, so
// that how long something took says nothing about it.
func starved(before, after processors) bool {
	all, idle, own := after.all-before.all, after.idle-before.idle, after.own-before.own
	return os.Getenv(strictEnv) != "strict" && all > 0 && idle/all < needIdle && (all-idle-own)/all >= mostOthers
}

func TestStarved(t *testing.T) {
	for _, tc := range []struct {
		idle, own, all float64
		strict         string
		want           bool
	}{
		{0, 0, 0, "", false},    // the kernel does not tell
		{90, 5, 100, "", false}, // quiet
		{5, 20, 100, "", true},
		{5, 20, 100, "strict", false},
		{5, 80, 100, "", false}, // by this test itself
	} {
		t.Setenv(strictEnv, tc.strict)
		if got := starved(processors{10, 10, 100}, processors{10 + tc.idle, 10 + tc.own, 100 + tc.all}); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	for range 3 {
		if now := readProcessors(); now.all > 0 && (now.idle > now.all || now.own > now.all) {
			t.Errorf("%+v", now)
		}
	}
}
