package outlier

import "time"

const (
	buckets     = 10
	bucketWidth = time.Second
)

// window counts outcomes over the last ten seconds, exactly to a second.
type window struct {
	newest      int64 // number of the newest bucket
	ok, failed  uint32
	ring        [buckets]struct{ ok, failed uint32 }
	run         uint32        // failures since the last success, across buckets
	runSince    time.Duration // when the run began
	lastOutcome time.Duration // when the newest outcome came; see known
	known       bool          // there was one
}

// add counts an outcome.
func (w *window) add(at time.Duration, failed bool) {
	w.advance(at)
	bucket := &w.ring[w.newest%buckets]
	if failed {
		if w.run == 0 {
			w.runSince = at
		}
		w.run++
		w.failed++
		bucket.failed++
	} else {
		w.run = 0
		w.ok++
		bucket.ok++
	}
	w.lastOutcome, w.known = at, true
}

// advance empties the buckets that have fallen out of the window. A time before
// the newest one seen changes nothing.
func (w *window) advance(at time.Duration) {
	now := int64(at / bucketWidth)
	if now <= w.newest {
		return
	}
	for range min(now-w.newest, buckets) {
		w.newest++
		old := &w.ring[w.newest%buckets]
		w.ok -= old.ok
		w.failed -= old.failed
		old.ok, old.failed = 0, 0
	}
	w.newest = now
}

// share is the share of failures, 0 where nothing is counted.
func (w *window) share() float64 {
	if w.failed == 0 {
		return 0
	}
	return float64(w.failed) / float64(w.ok+w.failed)
}
