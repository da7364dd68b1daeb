package balancer

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// LeastRequest draws two endpoints at random and picks the one with fewer
// attempts in flight from this client, relative to its weight (gRFC A48 with
// two choices). If both have the same number, chance decides in proportion to
// the weights. The zero value is ready to use.
type LeastRequest struct {
	// Rand is as in [Adaptive].
	Rand func() uint64
}

// Pick implements [Policy].
func (p *LeastRequest) Pick(l *List, r Request) int {
	var drawn [2]int
	switch l.draw(drawn[:], &r, p.Rand) {
	case 0:
		return -1
	case 1:
		return drawn[0]
	}
	a, b := l.endpoints[drawn[0]], l.endpoints[drawn[1]]
	inA, inB := a.inFlight.Load(), b.inFlight.Load()
	weightA, weightB := a.weight.Load(), b.weight.Load()
	costA, costB := (inA+1)*weightB, (inB+1)*weightA
	switch {
	case inA == inB:
		// Without this an idle pair would always send to the heavier one.
		if random(p.Rand)%uint64(weightA+weightB) < uint64(weightA) {
			return drawn[0]
		}
	case costA < costB:
		return drawn[0]
	case costA == costB && random(p.Rand)&1 == 0:
		return drawn[0]
	}
	return drawn[1]
}

// RoundRobin picks one endpoint after the other, without regard to weights and
// load. Use [NewRoundRobin].
type RoundRobin struct {
	// Rand is as in [Adaptive]; only a slow start leaves things to chance.
	Rand func() uint64

	next atomic.Uint64
}

// NewRoundRobin returns a policy that starts at a random endpoint, so that many
// clients started together do not walk in step.
func NewRoundRobin() *RoundRobin {
	p := new(RoundRobin)
	p.next.Store(uint64(rand.Uint32()))
	return p
}

// Pick implements [Policy].
func (p *RoundRobin) Pick(l *List, r Request) int {
	n := uint64(l.Len())
	for range n {
		// Who is passed over gives its turn to the next one, which moves on the
		// turns of all the others: nobody gets two in every round.
		if i := int(p.next.Add(1) % n); l.class(i, &r, p.Rand, 1) == ready {
			return i
		}
	}
	return l.any(&r, p.Rand)
}

// PickFirst picks the first open endpoint of the list, and stays with it for as
// long as it is there and open, even when the order of the list changes or an
// earlier one opens. A call in which it failed goes to the next open one, without
// moving the others. It does not spare endpoints that warm up. The zero value is
// ready to use.
type PickFirst struct {
	current atomic.Pointer[place]
}

// place is where the endpoint that a [PickFirst] stays with is in a list.
type place struct {
	list  *List
	index int
}

// Pick implements [Policy].
func (p *PickFirst) Pick(l *List, r Request) int {
	at := p.stay(l, r.Now)
	if at >= 0 && l.rank(at, &r) == ready {
		return at
	}
	first, best := -1, last+1
	for i := range l.endpoints {
		if c := l.rank(i, &r); c < best {
			first, best = i, c
		}
		if best == ready {
			break
		}
	}
	if best == excluded && at >= 0 {
		return at // all that are open failed in this call
	}
	return first
}

// stay is the index of the endpoint to stay with, -1 if none is open.
func (p *PickFirst) stay(l *List, now time.Time) int {
	current := p.current.Load()
	i := -1
	switch {
	case current == nil:
	case current.list == l:
		i = current.index
	default:
		i = slices.Index(l.endpoints, current.list.endpoints[current.index])
	}
	if i < 0 || !l.endpoints[i].open(now) {
		i = slices.IndexFunc(l.endpoints, func(e *Endpoint) bool { return e.open(now) })
	}
	if i >= 0 && (current == nil || current.list != l || current.index != i) {
		p.current.Store(&place{l, i})
	}
	return i
}
