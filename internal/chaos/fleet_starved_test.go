//go:build linux

package chaos_test

import (
	"sync"
	"testing"
	"time"

	"plinth.internal/internal/processors"
)

const (
	// A few samples in which the processors were scarce make what was measured
	// meanwhile worthless.
	sampleEvery = 500 * time.Millisecond
	fewNeeds    = 2
)

// starvation knows when there was too little CPU. Without CHAOS_JUDGE=strict a fleet
// that shares the machine with other tests, as it does in "go test ./...", is not judged
// then by what becomes of its calls.
type starvation struct {
	mu   sync.Mutex
	need []time.Time
}

// watch looks at the processors until the test ends.
func (s *starvation) watch(t *testing.T) {
	t.Helper()
	if *full || processors.Strict() {
		return
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(sampleEvery)
		defer ticker.Stop()
		before := processors.Read()
		for {
			select {
			case <-stop:
				return
			case now := <-ticker.C:
				read := processors.Read()
				if read.Since(before).Scarce() {
					s.mu.Lock()
					s.need = append(s.need, now)
					s.mu.Unlock()
				}
				before = read
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
