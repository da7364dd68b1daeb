package balancer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// tries is how many draws that find no endpoint to pick are followed by a walk
// over the whole list.
const tries = 16

// shares maps a number to an index, in proportion to weights.
type shares struct {
	sums []uint64 // of the weights up to and with each index
	at   int64    // when they were computed
}

func newShares(endpoints []*Endpoint, weight func(*Endpoint) float64) *shares {
	s := &shares{sums: make([]uint64, len(endpoints))}
	weights := make([]float64, len(endpoints))
	var total float64
	for i, e := range endpoints {
		weights[i] = weight(e)
		total += weights[i]
	}
	var sum uint64
	for i, w := range weights {
		sum += max(uint64(w/total*(1<<40)), 1)
		s.sums[i] = sum
	}
	return s
}

// find maps 64 bits, of which the upper ones count most, to an index. There must
// be endpoints.
func (s *shares) find(position uint64) int {
	target, _ := bits.Mul64(position, s.sums[len(s.sums)-1])
	i, found := slices.BinarySearch(s.sums, target)
	if found {
		i++ // a sum is where the next one begins
	}
	return i
}

// Random picks an endpoint at random, in proportion to the weights. The zero
// value is ready to use.
type Random struct {
	// Rand is as in [Adaptive].
	Rand func() uint64
}

// Pick implements [Policy].
func (p *Random) Pick(l *List, r Request) int {
	if l.Len() == 0 {
		return -1
	}
	weights := l.registered()
	for range tries {
		if i := weights.find(random(p.Rand)); l.class(i, &r, p.Rand, 1) == ready {
			return i
		}
	}
	return l.any(&r, p.Rand)
}

// Weighted spreads the calls evenly in proportion to weights. Where at least two
// servers report their utilization and their calls per second (ORCA), the weight
// is what gRFC A51 and A58 say: qps / (utilization + eps/qps). It counts once
// the server has reported for 10 s, and until it has not for 3 min; a server
// without one gets the mean of the others. The weights of the list multiply it, or
// stand alone where nobody reports. What is reported is looked at once a second,
// so that this policy suits servers that differ for good, not those that suddenly
// turn slow. Use [NewWeighted].
type Weighted struct {
	// Rand is as in [Adaptive]; only a slow start leaves things to chance.
	Rand func() uint64

	next atomic.Uint64
}

// NewWeighted returns a policy that starts at a random place, so that many clients
// started together do not walk in step.
func NewWeighted() *Weighted {
	p := new(Weighted)
	p.next.Store(rand.Uint64())
	return p
}

// golden is the golden ratio of 2^64. Its multiples, modulo 2^64, fall evenly into
// any interval, without runs and in any number: stepping by it gives every
// endpoint its part of the calls at even distances, with one atomic addition.
const golden = 0x9e3779b97f4a7c15

// Pick implements [Policy].
func (p *Weighted) Pick(l *List, r Request) int {
	if l.Len() == 0 {
		return -1
	}
	weights := l.weigh(l.endpoints[0].fleet.at(r.Now))
	for range tries {
		if i := weights.find(p.next.Add(golden)); l.class(i, &r, p.Rand, 1) == ready {
			return i
		}
	}
	return l.any(&r, p.Rand)
}

// weigh returns shares that are not older than weightUpdate, or those that were
// there while another one computes them.
func (l *List) weigh(at int64) *shares {
	weights := l.reported.Load()
	if weights != nil && at-weights.at < int64(weightUpdate) {
		return weights
	}
	if !l.computing.CompareAndSwap(false, true) {
		if weights == nil {
			return l.registered()
		}
		return weights
	}
	defer l.computing.Store(false)
	var sum float64
	n := 0
	for _, e := range l.endpoints {
		if c := e.reportedCapacity(at); c > 0 {
			sum += c
			n++
		}
	}
	if n < 2 { // A58: there is nothing to compare
		weights = &shares{sums: l.registered().sums, at: at}
	} else {
		mean := sum / float64(n)
		weights = newShares(l.endpoints, func(e *Endpoint) float64 {
			c := e.reportedCapacity(at)
			if c <= 0 {
				c = mean
			}
			return c * float64(e.weight.Load())
		})
		weights.at = at
	}
	l.reported.Store(weights)
	return weights
}

// reportedCapacity is what the server can take in a second, by its own word; 0
// without a word that counts.
func (e *Endpoint) reportedCapacity(at int64) float64 {
	last := e.orcaAt.Load()
	if last == 0 || at-last >= int64(weightExpiry) || at-e.orcaSince.Load() < int64(weightBlackout) {
		return 0
	}
	return e.capacity.load()
}
