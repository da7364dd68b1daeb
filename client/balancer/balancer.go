// Package balancer chooses the instance that an attempt is sent to. It is the
// pure part of balancing: records of endpoints, and policies that pick one of
// them; no transport, no goroutine, no clock. Time is passed in.
//
// The default policy, [Adaptive], compares a few random candidates by cost:
// latency, times the calls that are in flight on the server, times a penalty for
// failures. Most of what it knows comes with the answers, as what servers report
// about themselves ([Endpoint.Report]). Where a server does not report, the
// client's own measurements take the place of the report, endpoint by endpoint.
//
// Guarantees:
//   - What is known of an endpoint is keyed by its address and survives every
//     update of the list, so that one new instance does not make all the others
//     look new. Another process at the same address starts with a fresh record.
//   - Everything may be used concurrently. A pick takes no lock and allocates
//     nothing, except when it is the first one on a list and the policy derives a
//     table from the list.
//   - An endpoint whose [Gate] is closed is not picked while another one is open.
//   - An instance that has just started gets its share bit by bit: see
//     [SlowStart].
//   - What is known grows old: it fades into the mean of the fleet. A policy never
//     forces a pick that its rule would not make ("this one was not picked for a
//     second"): with many clients of low rate that inverts the choice.
//
// The package has more files than most because every policy has its own.
package balancer

import (
	"sync"
	"time"
)

// DefaultWeight is the weight of an endpoint for which none is given.
const DefaultWeight = 100

// Outcome is how an attempt ended, as far as its endpoint is to blame.
type Outcome uint8

const (
	// Ignored says nothing about the endpoint's health: the caller gave up, the
	// attempt never left the client, or the server handed it back.
	Ignored Outcome = iota
	// Succeeded means that the endpoint did its work, even if the answer was
	// an error that the caller caused.
	Succeeded
	// Failed means that the endpoint did not do its work.
	Failed
	// Refused means that the endpoint turned the attempt away, being too busy. It
	// makes calls to it as dear as Failed does; see [Recent] for the difference.
	Refused
)

// Gate lets another policy keep an endpoint from being picked, such as one that
// ejects sick instances. Open is called for every candidate of every pick,
// concurrently; it must not block.
type Gate interface {
	// Open reports whether the endpoint may be picked at this moment.
	Open(now time.Time) bool
}

// Member is one entry of a list of addresses.
type Member struct {
	// Addr is the address, the key of the endpoint's record.
	Addr string
	// Weight is the endpoint's share relative to the others; 0 or less means
	// [DefaultWeight].
	Weight int
	// Away says that the instance is in another zone than the client; see
	// [Set.SetAwayFactor].
	Away bool
	// Started is when the instance at the address says that it started; zero
	// means long ago. See [SlowStart]. Another time than before means another
	// process, of which nothing is known.
	Started time.Time
	// Back says that the instance was lost, and has announced itself again. What was
	// measured while it was lost says nothing about it now, and is forgotten.
	Back bool
	// Gate says when the endpoint may be picked; nil means always.
	Gate Gate
}

// Set keeps the records of the endpoints of one service. The zero Set is empty
// and ready to use. It must not be copied.
type Set struct {
	fleet fleet

	mu        sync.Mutex
	endpoints map[string]*Endpoint
}

// Update makes the set hold the members and no others, and returns their
// endpoints in the same order. An address that was there before keeps its
// record; an address that is given twice yields the same endpoint twice, with
// the weight and the gate given last. If the Started of a known address changes,
// what was measured there is forgotten, as it is for a member that is Back; attempts
// in flight still count until they end. The record of an address that is gone is
// forgotten here; attempts that are still in flight on it end on the old record.
func (s *Set) Update(now time.Time, members []Member) []*Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoints == nil {
		s.fleet.epoch = now
	}
	next := make(map[string]*Endpoint, len(members))
	list := make([]*Endpoint, 0, len(members))
	settled := false // somebody is there who is not warming up
	for _, m := range members {
		e := next[m.Addr]
		if e == nil {
			e = s.endpoints[m.Addr]
		}
		if e == nil {
			e = newEndpoint(m.Addr, &s.fleet)
		}
		if m.Back || e.warm.replacedBy(m.Started) {
			e.forget()
		}
		e.set(m)
		if e.warm.see(now, m.Started) >= SlowStart {
			settled = true
		}
		next[m.Addr] = e
		list = append(list, e)
	}
	for _, e := range list {
		e.warm.apply(settled)
	}
	s.endpoints = next
	return list
}
