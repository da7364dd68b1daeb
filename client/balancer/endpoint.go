package balancer

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint is what a client knows of one address. It is made by [Set.Update].
type Endpoint struct {
	// Immutable.
	addr  string
	fleet *fleet

	warm   warmUp
	weight atomic.Int64
	away   atomic.Bool // it is in another zone than the client
	gate   atomic.Pointer[Gate]

	// Written under mu, read by anybody. Times are as the fleet counts them, and
	// 0 means never.
	inFlight  atomic.Int64
	oldest    atomic.Int64 // when the oldest pending attempt began
	latency   number       // in nanoseconds
	latencyAt atomic.Int64
	reported  atomic.Int64 // in-flight, as the server said
	others    number       // the part of it that was not this client's
	reportAt  atomic.Int64
	toldShare number // of failures, as the server said
	toldAt    atomic.Int64
	ownCalls  number // that ended lately, fading
	ownFails  number
	ownAt     atomic.Int64
	capacity  number // calls per second at full utilization (ORCA)
	orcaSince atomic.Int64
	orcaAt    atomic.Int64
	calls     atomic.Uint64
	failures  atomic.Uint64

	// mu guards the list of pending attempts, and is held for a few instructions
	// by those that begin and end attempts, never by those that pick.
	mu         sync.Mutex
	head, tail *Call
	way        float64 // what measured latencies have beyond what the server tells
	wayAt      int64
	process    uint32 // counts the processes seen at the address
	recent     recent
}

func newEndpoint(addr string, f *fleet) *Endpoint {
	e := &Endpoint{addr: addr, fleet: f}
	e.warm.epoch = f.epoch
	return e
}

// set takes in what a list says.
func (e *Endpoint) set(m Member) {
	weight := m.Weight
	if weight <= 0 {
		weight = DefaultWeight
	}
	e.weight.Store(int64(weight))
	e.away.Store(m.Away)
	if m.Gate == nil {
		e.gate.Store(nil)
	} else {
		e.gate.Store(&m.Gate)
	}
}

// forget makes the record that of another process. What is in flight was sent to
// the old one: it is counted until it ends, and tells nothing then.
func (e *Endpoint) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.process++
	e.head, e.tail = nil, nil
	e.way, e.wayAt = 0, 0
	e.recent = recent{}
	for _, n := range []*atomic.Int64{&e.oldest, &e.latencyAt, &e.reported, &e.reportAt, &e.toldAt, &e.ownAt, &e.orcaSince, &e.orcaAt} {
		n.Store(0)
	}
	for _, n := range []*number{&e.latency, &e.others, &e.toldShare, &e.ownCalls, &e.ownFails, &e.capacity} {
		n.store(0)
	}
	e.calls.Store(0)
	e.failures.Store(0)
}

// Addr is the address the endpoint is known by.
func (e *Endpoint) Addr() string { return e.addr }

// Weight is the endpoint's share relative to the others; see [Member].
func (e *Endpoint) Weight() int64 { return e.weight.Load() }

func (e *Endpoint) open(now time.Time) bool {
	gate := e.gate.Load()
	return gate == nil || (*gate).Open(now)
}

// Call is one attempt on an endpoint. Its memory is the caller's, so that nothing
// is allocated: embed it in what the attempt needs anyway. From Begin to End it
// must be neither copied nor used again.
type Call struct {
	prev, next *Call
	begun      int64
	process    uint32
	stream     bool
	took       int64 // until the answer, 0 = there has been none before the end
}

// Begin records that an attempt is sent to the endpoint. Every Begin must be
// followed by one [Endpoint.End] with the same call.
func (e *Endpoint) Begin(now time.Time, c *Call) { e.begin(now, c, false) }

// BeginStream is Begin for an attempt that lasts as long as its caller likes. It
// counts as in flight, but how long it takes says nothing about the endpoint:
// neither its age nor its latency is used.
func (e *Endpoint) BeginStream(now time.Time, c *Call) { e.begin(now, c, true) }

func (e *Endpoint) begin(now time.Time, c *Call, stream bool) {
	at := e.fleet.at(now)
	e.fleet.inFlight.Add(1)
	e.mu.Lock()
	e.inFlight.Add(1)
	e.recent.bucket(at).picks++
	*c = Call{begun: at, process: e.process, stream: stream}
	if !stream {
		if c.prev = e.tail; c.prev == nil {
			e.head = c
			e.oldest.Store(at)
		} else {
			c.prev.next = c
		}
		e.tail = c
	}
	e.mu.Unlock()
}

// Answer records that the answer to an attempt has come, now, although the attempt
// goes on: its caller reads what follows at its own pace. It counts as in flight
// until [Endpoint.End], but its latency ends here. Calling it is optional; the
// first time counts.
func (e *Endpoint) Answer(now time.Time, c *Call) {
	at := e.fleet.at(now)
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.process != e.process || c.stream || c.took != 0 {
		return
	}
	e.unlink(c)
	c.took = max(at-c.begun, 1)
}

// End records how an attempt ended, now. It must be called exactly once.
//
// Only the latency of an attempt that succeeded is used as such: an error is
// often fast. One that failed or was given up late shows that the endpoint is at
// least that slow.
func (e *Endpoint) End(now time.Time, c *Call, outcome Outcome) {
	at := e.fleet.at(now)
	e.fleet.inFlight.Add(-1)
	e.mu.Lock()
	e.inFlight.Add(-1)
	if c.process != e.process { // it was sent to the process before this one
		e.mu.Unlock()
		return
	}
	took := -1.0
	switch {
	case c.took != 0:
		took = float64(c.took)
	case !c.stream:
		e.unlink(c)
		took = float64(max(at-c.begun, 0))
	}
	e.recent.end(at, outcome)
	sample := e.learn(at, took, outcome)
	e.mu.Unlock()

	e.fleet.ended.Store(at)
	if outcome != Ignored {
		e.fleet.outcome(at, outcome != Succeeded, sample)
	}
}

func (e *Endpoint) unlink(c *Call) {
	if c.prev == nil {
		e.head = c.next
		var oldest int64
		if e.head != nil {
			oldest = e.head.begun
		}
		e.oldest.Store(oldest)
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		e.tail = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// learn takes in the outcome of an attempt and what it took, negative for one
// whose duration means nothing. It returns the latency that the fleet may learn
// from, negative for none. The caller holds mu.
func (e *Endpoint) learn(at int64, took float64, outcome Outcome) (sample float64) {
	expected := e.expected(at, e.fleet.view(at).latency)
	switch outcome {
	case Ignored:
	case Succeeded:
		e.count(at, 0)
		if took < 0 {
			return -1
		}
		share := 1.0
		if last := e.latencyAt.Load(); last != 0 {
			share -= decay(at-last, ownTau)
		}
		e.setLatency(at, expected, took, share)
		return took
	case Failed, Refused:
		e.failures.Add(1)
		e.count(at, 1)
	}
	if took > expected {
		e.setLatency(at, expected, took, censored)
	}
	return -1
}

// count adds a call to the own failure share.
func (e *Endpoint) count(at int64, failed float64) {
	e.calls.Add(1)
	fade := decay(at-e.ownAt.Load(), e.fleet.failureTau())
	calls, fails := e.ownCalls.load()*fade, e.ownFails.load()*fade
	if calls > failureCalls-1 {
		fails *= (failureCalls - 1) / calls
		calls = failureCalls - 1
	}
	e.ownCalls.store(calls + 1)
	e.ownFails.store(fails + failed)
	e.ownAt.Store(at)
}

func (e *Endpoint) setLatency(at int64, from, to, share float64) {
	e.latency.store(from + (to-from)*share)
	e.latencyAt.Store(at)
}

// Report is what a server says about itself with an answer.
type Report struct {
	// InFlight is the number of calls that it serves beside the one that the
	// report came with; -1 means not said.
	InFlight int64
	// Latency is the mean latency of the calls that it served lately; 0 means not
	// said.
	Latency time.Duration
	// Failures is the share of these that failed, from 0 to 1; negative means not
	// said.
	Failures float64
	// QPS is how many calls it serves in a second, EPS how many of them fail, and
	// Utilization how busy that makes it, 1 being all it can do (ORCA). 0 means not
	// said. They are only used by [Weighted].
	QPS, EPS, Utilization float64
}

// Report takes in what the server says. It is to be called after the
// [Endpoint.End] of the attempt whose answer carried the report, if it was one.
func (e *Endpoint) Report(now time.Time, r Report) {
	at := e.fleet.at(now)
	load, others, latency, failures, way := -1.0, -1.0, -1.0, -1.0, math.NaN()
	e.mu.Lock()
	if r.InFlight >= 0 {
		load = float64(r.InFlight)
		others = max(load-float64(e.inFlight.Load()), 0)
		e.reported.Store(r.InFlight)
		e.others.store(others)
		e.reportAt.Store(at)
	}
	if r.Latency > 0 {
		latency = e.learnTold(at, float64(r.Latency))
		if e.wayAt != 0 {
			way = e.way
		}
	}
	if r.Failures >= 0 {
		failures = min(r.Failures, 1)
		// All clients hear it: what chance made of few calls must not send them
		// all elsewhere.
		usual := e.fleet.told.value.load()
		e.toldShare.store(failures - failureDoubt*math.Sqrt(usual*(1-usual)/max(r.QPS, 1)))
		e.toldAt.Store(at)
	}
	e.reportCapacity(at, r)
	e.mu.Unlock()
	e.fleet.report(at, load, others, latency, failures, way)
}

// learnTold takes in the latency that the server tells, and returns what it means
// here. The server does not know of the way to it and back; what that takes is
// learned from the difference to what this client measures. The caller holds mu.
func (e *Endpoint) learnTold(at int64, latency float64) float64 {
	if e.latencyAt.Load() == 0 { // it has only told yet: a probe, or a call handed back
		latency = max(latency+e.fleet.way.value.load(), 0)
		e.setLatency(at, latency, latency, told)
		return latency
	}
	measured := e.expected(at, e.fleet.view(at).latency)
	share := 1.0
	if e.wayAt != 0 {
		share -= decay(at-e.wayAt, wayTau)
	}
	e.way += (measured - latency - e.way) * share
	e.wayAt = at
	latency = max(latency+e.way, 0)
	e.setLatency(at, measured, latency, told)
	return latency
}

// reportCapacity is gRFC A58: weight = qps / (utilization + eps/qps * penalty).
func (e *Endpoint) reportCapacity(at int64, r Report) {
	if r.QPS <= 0 || r.Utilization <= 0 {
		return
	}
	if last := e.orcaAt.Load(); last == 0 || at-last >= int64(weightExpiry) {
		e.orcaSince.Store(at)
	}
	e.capacity.store(r.QPS / (r.Utilization + r.EPS/r.QPS*errorPenalty))
	e.orcaAt.Store(at)
}
