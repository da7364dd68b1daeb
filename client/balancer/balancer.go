// Package balancer chooses the instance that an attempt is sent to. It is the
// pure part of balancing: records of endpoints, and policies that pick one of
// them; no transport, no goroutine, no clock. Time is passed in.
//
// Guarantees:
//   - What is known of an endpoint is keyed by its address and survives every
//     update of the list, so that one new instance does not make all the others
//     look new.
//   - Everything may be used concurrently. A pick takes no lock and allocates
//     nothing.
//   - An instance that has just started gets its share bit by bit: see
//     [SlowStart].
//   - A policy never forces a pick that its rule would not make ("this one was
//     not picked for a second"): with many clients of low rate that inverts the
//     choice.
package balancer

import (
	"sync"
	"sync/atomic"
	"time"
)

// DefaultWeight is the weight of an endpoint for which none is given.
const DefaultWeight = 100

// Outcome is how an attempt ended, as far as its endpoint is to blame.
type Outcome uint8

const (
	// Ignored says nothing about the endpoint: the caller gave up, or the
	// attempt never left the client.
	Ignored Outcome = iota
	// Succeeded means that the endpoint did its work, even if the answer was
	// an error that the caller caused.
	Succeeded
	// Failed means that the endpoint did not do its work.
	Failed
)

// Endpoint is what a client knows of one address. It is made by [Set.Update].
type Endpoint struct {
	addr string
	warm warmUp

	weight   atomic.Int64
	inFlight atomic.Int64
	calls    atomic.Uint64
	failures atomic.Uint64
	latency  atomic.Int64 // nanoseconds, 0 before the first success
}

// Stats is a reading of an endpoint's counters.
type Stats struct {
	// InFlight is the number of this client's attempts that have not ended.
	InFlight int64
	// Calls is the number of attempts that ended with Succeeded or Failed.
	Calls uint64
	// Failures is how many of these failed.
	Failures uint64
	// Latency is the moving mean of the successful attempts, the newest with a
	// weight of one eighth; 0 before the first one.
	Latency time.Duration
}

// Addr is the address the endpoint is known by.
func (e *Endpoint) Addr() string { return e.addr }

// Weight is the endpoint's share relative to the others; see [Member].
func (e *Endpoint) Weight() int64 { return e.weight.Load() }

// Begin records that an attempt is sent to the endpoint. Every Begin must be
// followed by one [Endpoint.End].
func (e *Endpoint) Begin() { e.inFlight.Add(1) }

// End records how an attempt ended, and how long it took. The latency of an
// attempt that did not succeed is not used: an error is often fast.
func (e *Endpoint) End(outcome Outcome, latency time.Duration) {
	e.inFlight.Add(-1)
	switch outcome {
	case Ignored:
	case Failed:
		e.calls.Add(1)
		e.failures.Add(1)
	case Succeeded:
		e.calls.Add(1)
		// An update that is lost between load and store costs one sample of
		// many; a loop would cost every call.
		mean := e.latency.Load()
		if mean == 0 {
			e.latency.Store(int64(latency))
		} else {
			e.latency.Store(mean + (int64(latency)-mean)/8)
		}
	}
}

// Stats reads the counters. They are read one after the other, so that under
// load they need not belong to the same instant.
func (e *Endpoint) Stats() Stats {
	return Stats{
		InFlight: e.inFlight.Load(),
		Calls:    e.calls.Load(),
		Failures: e.failures.Load(),
		Latency:  time.Duration(e.latency.Load()),
	}
}

// Member is one entry of a list of addresses.
type Member struct {
	// Addr is the address, the key of the endpoint's record.
	Addr string
	// Weight is the endpoint's share relative to the others; 0 or less means
	// [DefaultWeight].
	Weight int
	// Started is when the instance at the address says that it started; zero
	// means long ago. See [SlowStart].
	Started time.Time
}

// Set keeps the records of the endpoints of one service. The zero Set is empty
// and ready to use.
type Set struct {
	mu        sync.Mutex
	epoch     time.Time // of the first update, what times are counted from
	endpoints map[string]*Endpoint
}

// Update makes the set hold the members and no others, and returns their
// endpoints in the same order. An address that was there before keeps its
// record; an address that is given twice yields the same endpoint twice, with
// the weight given last. The record of an address that is gone is forgotten
// here; attempts that are still in flight on it end on the old record.
func (s *Set) Update(now time.Time, members []Member) []*Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch.IsZero() {
		s.epoch = now
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
			e = &Endpoint{addr: m.Addr}
			e.warm.epoch = s.epoch
		}
		weight := m.Weight
		if weight <= 0 {
			weight = DefaultWeight
		}
		e.weight.Store(int64(weight))
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
