package balancer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// The names of the policies, for [New].
const (
	// NameAdaptive names [Adaptive], the best one where nothing special is asked
	// for.
	NameAdaptive = "adaptive"
	// NamePrecise names [Precise].
	NamePrecise = "precise"
	// NameRoundRobin names [RoundRobin].
	NameRoundRobin = "round_robin"
	// NameLeastRequest names [LeastRequest].
	NameLeastRequest = "least_request"
	// NameWeighted names [Weighted].
	NameWeighted = "weighted"
	// NameConsistentHash names [ConsistentHash].
	NameConsistentHash = "consistent_hash"
	// NameRandom names [Random].
	NameRandom = "random"
	// NamePickFirst names [PickFirst].
	NamePickFirst = "pick_first"
)

// Request is what a pick depends on beside the candidates.
type Request struct {
	// Now is the time of the pick.
	Now time.Time
	// Exclude are the endpoints that already failed in this call, few. They are
	// picked only if no other one is open.
	Exclude []*Endpoint
	// Key is what [ConsistentHash] hashes; "" means a random place. Other policies
	// ignore it.
	Key string
	// Among are the indices that [Adaptive] and [Precise] choose from instead of
	// drawing some: those that were asked for their load, see [Prober]. Empty
	// means all. Other policies ignore it.
	Among []int
}

// Policy chooses an endpoint.
//
// All policies keep to the same order: an open endpoint, then an open one that
// failed in this call, then, if every gate is closed, any of them, those that did
// not fail in this call first. All but [PickFirst] and [ConsistentHash] spare
// endpoints that warm up.
type Policy interface {
	// Pick returns the index in the list of the endpoint that the next attempt
	// goes to, -1 if the list is empty. It must not block, must not keep the
	// request's slices, and is called concurrently.
	Pick(l *List, r Request) int
}

// Prober is implemented by policies that want to ask before they pick, such as
// [Precise].
type Prober interface {
	// Probe appends to buf the indices, at most [ProbeCount], of the endpoints
	// whose load should be asked for now; none means to pick at once. The answers
	// go to [Endpoint.Report], and those that answered to [Request].Among of the
	// pick that follows. If none did, pick without Among.
	Probe(l *List, r Request, buf []int) []int
}

// Names returns the names that [New] knows, sorted.
func Names() []string {
	return []string{
		NameAdaptive, NameConsistentHash, NameLeastRequest, NamePickFirst,
		NamePrecise, NameRandom, NameRoundRobin, NameWeighted,
	}
}

// New returns the policy of that name, with state of its own. An unknown name
// is an error that lists the known ones.
func New(name string) (Policy, error) {
	switch name {
	case NameAdaptive:
		return &Adaptive{}, nil
	case NamePrecise:
		return &Precise{}, nil
	case NameRoundRobin:
		return NewRoundRobin(), nil
	case NameLeastRequest:
		return &LeastRequest{}, nil
	case NameWeighted:
		return NewWeighted(), nil
	case NameConsistentHash:
		return &ConsistentHash{}, nil
	case NameRandom:
		return &Random{}, nil
	case NamePickFirst:
		return &PickFirst{}, nil
	}
	return nil, fmt.Errorf("find balancer policy %q: known are %s", name, strings.Join(Names(), ", "))
}

// random takes bits from a source of one's own, else from the runtime's.
func random(source func() uint64) uint64 {
	if source != nil {
		return source()
	}
	return rand.Uint64()
}

// scale maps 32 random bits to [0, n) without a division.
func scale(bits uint32, n int) int { return int(uint64(bits) * uint64(n) >> 32) }
