//go:build linux

package chaos_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// strictEnv, set to "strict", has everything judged whatever else the machine
// does. Without it a fleet that shares the machine with other tests, as it does
// in "go test ./...", is not judged by small times.
const strictEnv = "CHAOS_JUDGE"

const (
	// A sample of the processors is one of need where less than needIdle of their
	// time was left, and a few of these make what was measured meanwhile worthless.
	sampleEvery = 500 * time.Millisecond
	needIdle    = 0.1
	fewNeeds    = 2
)

// starvation knows when there was too little CPU.
type starvation struct {
	mu   sync.Mutex
	need []time.Time
}

// watch looks at the processors until the test ends.
func (s *starvation) watch(t *testing.T) {
	t.Helper()
	if *full || os.Getenv(strictEnv) == "strict" {
		return
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		idle, all := processors()
		for {
			select {
			case <-stop:
				return
			case now := <-ticker.C:
				i, a := processors()
				if a > all && (i-idle)/(a-all) < needIdle {
					s.mu.Lock()
					s.need = append(s.need, now)
					s.mu.Unlock()
				}
				idle, all = i, a
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		wg.Wait()
	})
}

// since reports whether there was too little since a moment.
func (s *starvation) since(from time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, at := range s.need {
		if at.After(from) {
			n++
		}
	}
	return n >= fewNeeds
}

// processors returns the idle and the whole time of all processors, in the
// kernel's ticks; zeros where it does not tell.
func processors() (idle, all float64) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	for i, f := range fields {
		var ticks float64
		if _, err := fmt.Sscan(f, &ticks); err != nil || i > 8 { // guest time is in user time
			continue
		}
		all += ticks
		if i == 4 || i == 5 { // idle, and waiting for a disk
			idle += ticks
		}
	}
	return idle, all
}

// lenient says why small times are not judged now, "" where they are.
func (w *fleetWorld) lenient() string {
	switch {
	case raced:
		return "with the race detector"
	case w.spec.group.starved.since(w.begun):
		return "while other programs need the processors"
	}
	return ""
}
