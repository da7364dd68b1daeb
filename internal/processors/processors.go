// Package processors tells how busy the machine is, for tests that judge times: where
// there was too little CPU, how long something took says nothing about the code.
package processors

import (
	"os"
	"strconv"
	"strings"
)

// StrictEnv names the variable that, set to "strict", has everything judged whatever
// else the machine does.
const StrictEnv = "CHAOS_JUDGE"

// Strict reports that everything is to be judged.
func Strict() bool { return os.Getenv(StrictEnv) == "strict" }

// scarce is the share of idle time below which programs wait for a processor.
const scarce = 0.1

// Times are those of all processors, and what this process had of them, in the kernel's
// ticks; zeros where it does not tell.
type Times struct{ Idle, Own, All float64 }

// Read returns the times since the machine and the process were started.
func Read() (t Times) {
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Times{}
	}
	line, _, _ := strings.Cut(string(machine), "\n")
	for i, ticks := range numbers(line) {
		if i > 8 { // guest time is in user time
			break
		}
		t.All += ticks
		if i == 4 || i == 5 { // idle, and waiting for a disk
			t.Idle += ticks
		}
	}
	process, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return Times{}
	}
	_, rest, _ := strings.Cut(string(process), ") ")
	if n := numbers(rest); len(n) > 12 {
		t.Own = n[11] + n[12] // in user code and in the kernel
	}
	return t
}

// numbers are the fields of a line as numbers, 0 for what is none.
func numbers(line string) []float64 {
	fields := strings.Fields(line)
	out := make([]float64, len(fields))
	for i, f := range fields {
		if n, err := strconv.ParseFloat(f, 64); err == nil {
			out[i] = n
		}
	}
	return out
}

// Since returns the times between two readings.
func (t Times) Since(before Times) Times {
	return Times{Idle: t.Idle - before.Idle, Own: t.Own - before.Own, All: t.All - before.All}
}

// Scarce reports that next to no time was left.
func (t Times) Scarce() bool { return t.All > 0 && t.Idle/t.All < scarce }

// Taken reports that next to no time was left, and that other programs than this one
// had at least half of it all.
func (t Times) Taken() bool { return t.Scarce() && (t.All-t.Idle-t.Own)/t.All >= 0.5 }
