package sim

import (
	"math"
	"slices"
	"time"
)

// memory is the time over which a server averages what it reports.
const memory = time.Second

type state uint8

const (
	working state = iota
	failing       // answers every call with an error, at once
	silent        // takes calls and never answers
)

// server shares its cores evenly among its calls: each of n calls runs at
// min(1, cores/n) of a core's speed. All calls advance alike, so that one
// number, the work each has received, says when the next one ends: a call ends
// when received has grown by its demand.
type server struct {
	index    int
	cores    float64
	slow     float64 // how many times slower than it should be
	state    state
	received float64 // in nanoseconds of an unhindered core
	advanced time.Duration
	calls    []*call       // a heap by the value of received at which they end
	due      time.Duration // of the completion event that counts
	held     int           // calls that are not in the heap: those of a black hole
	tracker  tracker
}

const never = time.Duration(math.MaxInt64)

func (s *server) inFlight() int { return len(s.calls) + s.held }

// speed is how much of an unhindered core each call gets.
func (s *server) speed() float64 {
	if s.state == silent || len(s.calls) == 0 {
		return 0
	}
	return min(1, s.cores/float64(len(s.calls))) / s.slow
}

// advance brings the work received up to now; it comes before every change.
func (s *server) advance(now time.Duration) {
	dt := now - s.advanced
	if dt <= 0 {
		return
	}
	s.received += float64(dt) * s.speed()
	s.advanced = now
	s.tracker.busy(dt, min(1, float64(len(s.calls))/s.cores))
}

// next is when the first call ends if nothing changes.
func (s *server) next(now time.Duration) time.Duration {
	speed := s.speed()
	if speed == 0 {
		return never
	}
	left := max(0, s.calls[0].ends-s.received)
	return now + time.Duration(math.Ceil(left/speed))
}

func (s *server) add(c *call) {
	c.ends = s.received + c.demand
	c.place = len(s.calls)
	s.calls = append(s.calls, c)
	s.up(c.place)
}

func (s *server) remove(c *call) {
	i, last := c.place, len(s.calls)-1
	s.swap(i, last)
	s.calls[last] = nil
	s.calls = s.calls[:last]
	c.place = -1
	if i < last {
		s.up(i)
		s.down(i)
	}
}

func (s *server) swap(i, j int) {
	s.calls[i], s.calls[j] = s.calls[j], s.calls[i]
	s.calls[i].place, s.calls[j].place = i, j
}

func (s *server) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if s.calls[parent].ends <= s.calls[i].ends {
			return
		}
		s.swap(i, parent)
		i = parent
	}
}

func (s *server) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(s.calls); c++ {
			if s.calls[c].ends < s.calls[least].ends {
				least = c
			}
		}
		if least == i {
			return
		}
		s.swap(i, least)
		i = least
	}
}

// report is what the server says of itself with an answer.
func (s *server) report(now time.Duration) Report {
	r := s.tracker.report(now)
	r.InFlight = int64(s.inFlight())
	return r
}

// tracker keeps what a server reports: means over the calls of the last second
// or so, each call weighing less the older it is. It follows the rules of
// middleware/load, which cannot be driven here because it looks at the clock.
type tracker struct {
	at          time.Duration
	calls       float64
	failed      float64
	set         float64 // calls that set the latency
	latency     float64
	latencyAt   time.Duration
	utilization float64

	byLoad []samples // latencies by the number of calls that were there before
}

func (t *tracker) decay(now time.Duration) {
	if now > t.at {
		w := math.Exp(-float64(now-t.at) / float64(memory))
		t.calls *= w
		t.failed *= w
		t.set *= w
		t.at = now
	}
}

func (t *tracker) busy(dt time.Duration, share float64) {
	t.utilization += (share - t.utilization) * (1 - math.Exp(-float64(dt)/float64(memory)))
}

func (t *tracker) success(now, latency time.Duration, before int) {
	t.decay(now)
	t.calls++
	t.learn(now, latency)
	t.took(latency, before)
}

func (t *tracker) failure(now, latency time.Duration) {
	t.late(now, latency)
	t.failed++
}

// late says how long a call took that did not succeed. If that is longer than
// what is known, the others take at least as long. A deadline that passes is no
// failure beside that: the caller has chosen it.
func (t *tracker) late(now, latency time.Duration) {
	t.decay(now)
	t.calls++
	if t.set > 0 && float64(latency) > t.latency {
		t.learn(now, latency)
	}
}

// learn lets the call count by number or by time, whichever is more.
func (t *tracker) learn(now, latency time.Duration) {
	byNumber := 1 / (1 + t.set)
	byTime := 1 - math.Exp(-float64(now-t.latencyAt)/float64(memory))
	t.latency += max(byNumber, byTime) * (float64(latency) - t.latency)
	t.latencyAt = now
	t.set++
}

// took is a latency for [tracker.near], which knows no failures.
func (t *tracker) took(latency time.Duration, before int) {
	for len(t.byLoad) <= before {
		t.byLoad = append(t.byLoad, samples{})
	}
	t.byLoad[before].add(latency)
}

func (t *tracker) report(now time.Duration) Report {
	t.decay(now)
	r := Report{QPS: t.calls / memory.Seconds(), EPS: t.failed / memory.Seconds(), Utilization: t.utilization}
	r.Failures = t.failed / (t.calls + 1) // one failure is not a server that fails them all
	r.Latency = time.Duration(t.latency)
	return r
}

// near is the median latency of recent calls that found about as many calls on
// the server as there are now; what a server answers to Prequal's probes.
func (t *tracker) near(inFlight int) time.Duration {
	for d := range len(t.byLoad) + inFlight + 1 {
		for _, i := range [2]int{inFlight - d, inFlight + d} {
			if i >= 0 && i < len(t.byLoad) && t.byLoad[i].n > 0 {
				return t.byLoad[i].median()
			}
		}
	}
	return 0
}

// samples are the last few durations.
type samples struct {
	last [9]time.Duration
	n    int
}

func (s *samples) add(d time.Duration) {
	s.last[s.n%len(s.last)] = d
	s.n++
}

func (s *samples) median() time.Duration {
	sorted := s.last
	k := min(s.n, len(sorted))
	slices.Sort(sorted[:k])
	return sorted[k/2]
}
