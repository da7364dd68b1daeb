package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// The names of the policies, for [New].
const (
	// NameLeastRequest names [LeastRequest].
	NameLeastRequest = "least_request"
	// NameRoundRobin names [RoundRobin].
	NameRoundRobin = "round_robin"
)

// Policy chooses an endpoint.
type Policy interface {
	// Pick returns the index in candidates of the endpoint that the next
	// attempt goes to, -1 if there are no candidates. An endpoint in exclude
	// (those that already failed in this call; few) is picked only if there is
	// no other. Now decides how warm an endpoint is. Pick must not block, must
	// not keep the slices, and is called concurrently.
	Pick(now time.Time, candidates, exclude []*Endpoint) int
}

// New returns the policy of that name, with state of its own. An unknown name
// is an error that lists the known ones.
func New(name string) (Policy, error) {
	switch name {
	case NameLeastRequest:
		return &LeastRequest{}, nil
	case NameRoundRobin:
		return NewRoundRobin(), nil
	}
	return nil, fmt.Errorf("find balancer policy %q: known are %s and %s", name, NameLeastRequest, NameRoundRobin)
}

// LeastRequest draws two endpoints at random and picks the one with fewer
// attempts in flight from this client, relative to its weight (gRFC A48 with
// two choices). If both have the same number, chance decides in proportion to
// the weights. The zero value is ready to use.
type LeastRequest struct {
	// Rand is the source of random bits; nil means the runtime's own, which is
	// the right one everywhere but in a test with a fixed seed. It is called
	// concurrently.
	Rand func() uint64
}

// Pick implements [Policy].
func (p *LeastRequest) Pick(now time.Time, candidates, exclude []*Endpoint) int {
	i := p.pick(candidates, exclude)
	if i < 0 || candidates[i].admits(now, p.rand) {
		return i
	}
	if other, ok := p.draw(candidates, func(e *Endpoint) bool { return e.warming(now) || slices.Contains(exclude, e) }); ok {
		return other
	}
	return i // they all warm up: nobody can take its share
}

func (p *LeastRequest) pick(candidates, exclude []*Endpoint) int {
	n := len(candidates)
	switch n {
	case 0:
		return -1
	case 1:
		return 0
	}
	if len(exclude) > 0 {
		if i, ok := p.draw(candidates, func(e *Endpoint) bool { return slices.Contains(exclude, e) }); ok {
			return i
		}
	}
	bits := p.rand()
	i := scale(uint32(bits), n)
	j := scale(uint32(bits>>32), n-1)
	if j >= i {
		j++ // two different ones, every pair equally likely
	}
	return p.better(candidates, i, j)
}

// draw picks among the candidates that are not to be skipped; false if there
// are none. It walks the list, which only a retry pays for, and a pick that a
// warming endpoint passes on.
func (p *LeastRequest) draw(candidates []*Endpoint, skip func(*Endpoint) bool) (int, bool) {
	var drawn [2]int // a sample of two, drawn by reservoir sampling
	seen := 0
	for i, c := range candidates {
		if skip(c) {
			continue
		}
		seen++
		if seen <= len(drawn) {
			drawn[seen-1] = i
		} else if k := scale(uint32(p.rand()), seen); k < len(drawn) {
			drawn[k] = i
		}
	}
	switch seen {
	case 0:
		return 0, false
	case 1:
		return drawn[0], true
	}
	return p.better(candidates, drawn[0], drawn[1]), true
}

func (p *LeastRequest) better(candidates []*Endpoint, i, j int) int {
	a, b := candidates[i], candidates[j]
	inA, inB := a.inFlight.Load(), b.inFlight.Load()
	weightA, weightB := a.weight.Load(), b.weight.Load()
	costA, costB := (inA+1)*weightB, (inB+1)*weightA
	switch {
	case inA == inB:
		// Without this an idle pair would always send to the heavier one.
		if p.rand()%uint64(weightA+weightB) < uint64(weightA) {
			return i
		}
		return j
	case costA < costB:
		return i
	case costB < costA:
		return j
	case p.rand()&1 == 0:
		return i
	}
	return j
}

func (p *LeastRequest) rand() uint64 { return random(p.Rand) }

// random takes bits from a source of one's own, else from the runtime's.
func random(source func() uint64) uint64 {
	if source != nil {
		return source()
	}
	return rand.Uint64()
}

// scale maps 32 random bits to [0, n) without a division.
func scale(bits uint32, n int) int { return int(uint64(bits) * uint64(n) >> 32) }

// RoundRobin picks one endpoint after the other, without regard to weights and
// load. Use [NewRoundRobin].
type RoundRobin struct {
	// Rand is as in [LeastRequest]; only a slow start leaves things to chance.
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
func (p *RoundRobin) Pick(now time.Time, candidates, exclude []*Endpoint) int {
	n := uint64(len(candidates))
	if n == 0 {
		return -1
	}
	first := p.next.Add(1) % n
	i := after(candidates, first, func(e *Endpoint) bool { return slices.Contains(exclude, e) })
	if candidates[i].admits(now, func() uint64 { return random(p.Rand) }) {
		return i
	}
	// Whoever comes next, so that the share goes to all the others in turn.
	j := after(candidates, p.next.Add(1)%n, func(e *Endpoint) bool { return e.warming(now) || slices.Contains(exclude, e) })
	if candidates[j].warming(now) || slices.Contains(exclude, candidates[j]) {
		return i // they all warm up: nobody can take its share
	}
	return j
}

// after is the first candidate from a place on that is not to be skipped, the
// one at the place if all are.
func after(candidates []*Endpoint, first uint64, skip func(*Endpoint) bool) int {
	n := uint64(len(candidates))
	for k := range n {
		i := int((first + k) % n)
		if !skip(candidates[i]) {
			return i
		}
	}
	return int(first)
}
