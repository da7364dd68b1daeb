package balancer

import "time"

// recentSpan is what [Recent] is about, in buckets of a second.
const recentSpan = 10

// Recent is what became of the attempts on an endpoint in the last ten seconds,
// counted exactly to a second. It is for people who ask: no policy reads it.
type Recent struct {
	// Picks is how many began, whatever became of them.
	Picks int
	// Refused is how many ended with [Refused], and Ignored with [Ignored].
	Refused, Ignored int
}

// recent is the window behind Recent, guarded by the endpoint's mu.
type recent struct {
	newest int64 // second of the newest bucket
	ring   [recentSpan]outcomes
}

type outcomes struct{ picks, refused, ignored uint32 }

// bucket is the place of a moment as the fleet counts it, in nanoseconds. What is
// older than the window is emptied; a moment before the newest one counts as that.
func (r *recent) bucket(at int64) *outcomes {
	second := at / int64(time.Second)
	for next := max(r.newest, second-recentSpan) + 1; next <= second; next++ {
		r.ring[next%recentSpan] = outcomes{}
		r.newest = next
	}
	return &r.ring[r.newest%recentSpan]
}

// end counts how an attempt ended.
func (r *recent) end(at int64, outcome Outcome) {
	switch outcome {
	case Refused:
		r.bucket(at).refused++
	case Ignored:
		r.bucket(at).ignored++
	case Succeeded, Failed: // which others count
	}
}

// Recent tells what became of the attempts lately.
func (e *Endpoint) Recent(now time.Time) Recent {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recent.bucket(e.fleet.at(now))
	var sum Recent
	for i := range e.recent.ring {
		b := &e.recent.ring[i]
		sum.Picks += int(b.picks)
		sum.Refused += int(b.refused)
		sum.Ignored += int(b.ignored)
	}
	return sum
}
