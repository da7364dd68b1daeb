package balancer

import (
	"math/rand/v2"
	"strconv"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func members(n int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i].Addr = "10.0.0." + strconv.Itoa(i) + ":9000"
	}
	return members
}

func endpoints(n int) []*Endpoint { return new(Set).Update(noon, members(n)) }

func seeded(seed uint64) func() uint64 {
	return rand.New(rand.NewPCG(seed, seed)).Uint64
}

// call makes an attempt that takes a time.
func call(e *Endpoint, at time.Time, took time.Duration, o Outcome) {
	var c Call
	e.Begin(at, &c)
	e.End(at.Add(took), &c, o)
}

type gate func(time.Time) bool

func (g gate) Open(now time.Time) bool { return g(now) }

func shut(time.Time) bool { return false }

// policies returns all policies, with fixed seeds.
func policies(seed uint64) map[string]Policy {
	r := func() func() uint64 { return seeded(seed) } // one for each
	return map[string]Policy{
		NameAdaptive:       &Adaptive{Rand: r()},
		NamePrecise:        &Precise{Adaptive{Rand: r()}},
		NameRoundRobin:     &RoundRobin{Rand: r()},
		NameLeastRequest:   &LeastRequest{Rand: r()},
		NameWeighted:       &Weighted{Rand: r()},
		NameConsistentHash: &ConsistentHash{Rand: r()},
		NameRandom:         &Random{Rand: r()},
		NamePickFirst:      &PickFirst{},
	}
}

// spread picks again and again, and returns how many of them each endpoint got.
func spread(p Policy, l *List, r Request, calls int) []int {
	counts := make([]int, l.Len())
	for range calls {
		counts[p.Pick(l, r)]++
	}
	return counts
}
