package balancer

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// List is an immutable list of candidates. What a policy derives from it, such as
// a hash ring, is computed on the first use and kept with it, so that a list
// should be made once per change, not once per pick. The endpoints are all of one
// [Set].
type List struct {
	// Immutable.
	endpoints  []*Endpoint
	ring       func() *ring   // of [ConsistentHash]
	registered func() *shares // by the weights of the registry

	reported  atomic.Pointer[shares] // by what servers report, of [Weighted]
	computing atomic.Bool            // somebody computes reported
}

// NewList returns a list of the endpoints. The slice must not be changed
// afterwards.
func NewList(endpoints []*Endpoint) *List {
	l := &List{endpoints: endpoints}
	l.ring = sync.OnceValue(func() *ring { return newRing(endpoints) })
	l.registered = sync.OnceValue(func() *shares {
		return newShares(endpoints, func(e *Endpoint) float64 { return float64(e.weight.Load()) })
	})
	return l
}

// Len is the number of candidates.
func (l *List) Len() int { return len(l.endpoints) }

// At is the candidate of that index.
func (l *List) At(i int) *Endpoint { return l.endpoints[i] }

// class says how good a candidate is for a request before anything else about it
// is looked at.
type class int

const (
	ready    class = iota // open and settled, or warming up and willing
	declines              // open, warming up and sparing itself
	excluded              // open, but it failed in this call
	closed                // its gate is closed
	last                  // both
)

// rank is the class of a candidate, with no regard to its slow start.
func (l *List) rank(i int, r *Request) class {
	e := l.endpoints[i]
	failed := len(r.Exclude) > 0 && slices.Contains(r.Exclude, e)
	switch {
	case e.open(r.Now):
		if failed {
			return excluded
		}
		return ready
	case failed:
		return last
	}
	return closed
}

// class is rank, with the slow start: an endpoint that warms up is ready as often
// as its share says; compared is how many candidates a pick compares.
func (l *List) class(i int, r *Request, source func() uint64, compared int) class {
	c := l.rank(i, r)
	if c == ready && !l.endpoints[i].admits(r.Now, source, compared) {
		return declines
	}
	return c
}

// draw fills buf with different candidates, chosen at random among those of the
// best class there is, and returns their number. It is 0 only for an empty list.
func (l *List) draw(buf []int, r *Request, source func() uint64) int {
	n, want := len(l.endpoints), len(buf)
	if n <= want {
		return l.sample(buf, r, source)
	}
	drawn := 0
	var bits uint64
	for try := range 4 * want {
		if try&1 == 0 {
			bits = random(source)
		}
		i := scale(uint32(bits), n)
		bits >>= 32
		if slices.Contains(buf[:drawn], i) || l.class(i, r, source, want) != ready {
			continue
		}
		buf[drawn] = i
		if drawn++; drawn == want {
			return drawn
		}
	}
	if drawn >= 2 {
		return drawn // there is a choice
	}
	return l.sample(buf, r, source)
}

// sample is draw by a walk over the whole list, which only short lists and those
// with many closed gates pay for.
func (l *List) sample(buf []int, r *Request, source func() uint64) int {
	best, seen, compared := last, 0, min(len(buf), len(l.endpoints))
	for i := range l.endpoints {
		c := l.class(i, r, source, compared)
		if c > best {
			continue
		}
		if c < best {
			best, seen = c, 0
		}
		seen++
		if seen <= len(buf) {
			buf[seen-1] = i
		} else if k := scale(uint32(random(source)), seen); k < len(buf) {
			buf[k] = i
		}
	}
	return min(seen, len(buf))
}

// any is one candidate of the best class there is, -1 for an empty list.
func (l *List) any(r *Request, source func() uint64) int {
	var buf [1]int
	if l.sample(buf[:], r, source) == 0 {
		return -1
	}
	return buf[0]
}

// among fills buf with the candidates of the request's own choice, as far as they
// are of the best class among them, and returns their number.
func (l *List) among(buf []int, r *Request) int {
	best, n := last, 0
	for _, i := range r.Among {
		if i < 0 || i >= len(l.endpoints) {
			continue // of another list
		}
		c := l.rank(i, r)
		if c > best {
			continue
		}
		if c < best {
			best, n = c, 0
		}
		if n < len(buf) {
			buf[n] = i
			n++
		}
	}
	return n
}

// cheapest is one of the candidates whose costs are about the lowest: of those in
// the client's own zone, if any of them is.
func (l *List) cheapest(candidates []int, now time.Time, source func() uint64) int {
	if len(candidates) == 1 {
		return candidates[0]
	}
	f := l.endpoints[candidates[0]].fleet
	v := f.view(f.at(now))
	if v.away > 1 && scale(uint32(random(source)), awayLook) == 0 {
		v.away = 1
	}
	var costs [choices]float64
	var away [choices]bool
	lowest, home := math.Inf(1), false
	for k, i := range candidates {
		t := l.endpoints[i].cost(&v)
		costs[k], away[k] = t.cost, t.zone > 1
		lowest = min(lowest, t.cost)
	}
	if v.away > 1 {
		for k := range candidates {
			home = home || !away[k] && costs[k] <= lowest*alike
		}
	}
	best, seen := candidates[0], 0
	for k, i := range candidates {
		if costs[k] > lowest*alike || home && away[k] {
			continue
		}
		seen++
		if scale(uint32(random(source)), seen) == 0 { // always true for the first one
			best = i
		}
	}
	return best
}
