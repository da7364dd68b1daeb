package sim

import (
	"math/rand/v2"
	"time"
)

type world struct {
	sc      *Scenario
	now     time.Duration
	end     time.Duration // of arrivals
	measure time.Duration // from then on calls count
	rate    float64
	agenda  agenda
	servers []server
	clients []Client
	inbound []int // attempts sent to each server that have not ended

	arrivals *rand.Rand
	weather  *rand.Rand // slow periods
	wire     *rand.Rand // delays of probes and cancellations
	demand   demand

	deadlines []*call // in order of time, because all deadlines are the same
	head      int
	free      []*call
	buf       []int
	result    Result
}

// Run plays the scenario with the policy and measures it. The same seed gives
// the same calls and the same slow periods whatever the policy.
func Run(sc Scenario, p Policy, seed uint64) Result {
	w := &world{
		sc:       &sc,
		arrivals: rand.New(rand.NewPCG(seed, 1)),
		weather:  rand.New(rand.NewPCG(seed, 2)),
		wire:     rand.New(rand.NewPCG(seed, 3)),
		demand:   newDemand(sc.Even),
		rate:     sc.Rate(),
		servers:  make([]server, sc.Servers),
		inbound:  make([]int, sc.Servers),
	}
	if sc.WarmUp == 0 {
		sc.WarmUp = 12 * time.Second
	}
	if sc.Measured == 0 {
		sc.Measured = 20 * time.Second
	}
	w.measure, w.end = sc.WarmUp, sc.WarmUp+sc.Measured
	for i := range w.servers {
		s := &w.servers[i]
		s.index, s.cores, s.slow, s.due = i, float64(sc.cores(i)), 1, never
		if sc.Antagonists {
			s.slow = antagonist(w.weather)
			w.at(w.exp(w.weather, slowPeriod), event{kind: redraw, server: int32(i)})
		} else if slow, _ := sc.fault(i); !sc.Sudden {
			s.slow = slow
		}
	}
	chance := rand.New(rand.NewPCG(seed, 4))
	for i := range sc.Clients {
		w.clients = append(w.clients, p.New(&Env{Index: i, Servers: sc.Servers, Rand: chance, world: w}))
	}
	w.at(w.measure, event{kind: onset})
	w.at(w.exp(w.arrivals, w.gap()), event{kind: arrival})
	w.result.Sent = make([]int, sc.Servers)
	w.run()
	return w.result.finish()
}

func (w *world) gap() time.Duration { return time.Duration(float64(time.Second) / w.rate) }

func (w *world) exp(rng *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(rng.ExpFloat64() * float64(mean))
}

// at schedules an event that long from now.
func (w *world) at(in time.Duration, e event) {
	e.at = w.now + in
	if e.call != nil {
		e.call.events++
	}
	w.agenda.push(e)
}

func (w *world) run() {
	for len(w.agenda.events) > 0 || w.head < len(w.deadlines) {
		if w.head < len(w.deadlines) {
			c := w.deadlines[w.head]
			if at := c.start + Deadline; len(w.agenda.events) == 0 || at <= w.agenda.events[0].at {
				w.now = max(w.now, at)
				w.deadlines[w.head] = nil
				w.head++
				c.events--
				w.timeout(c)
				w.release(c)
				continue
			}
		}
		e := w.agenda.pop()
		w.now = e.at
		if e.call != nil {
			e.call.events--
		}
		w.handle(&e)
		if e.call != nil {
			w.release(e.call)
		}
	}
}

func (w *world) handle(e *event) {
	switch e.kind {
	case arrival:
		w.arrive()
	case request:
		w.receive(e.call)
	case completion:
		w.complete(&w.servers[e.server], e.at)
	case mishap:
		s := &w.servers[e.server]
		s.held--
		s.tracker.failure(w.now, w.now-e.call.arrived)
		s.tracker.took(w.now-e.call.arrived, e.call.before)
		w.answer(e.call, s, Failed)
	case reply:
		w.replied(e.call)
	case cancel:
		w.cancel(e.call)
	case redraw:
		s := &w.servers[e.server]
		s.advance(w.now)
		s.slow = antagonist(w.weather)
		w.plan(s)
		if next := w.exp(w.weather, slowPeriod); w.now < w.end {
			w.at(next, event{kind: redraw, server: e.server})
		}
	case onset:
		for i := range w.servers {
			s := &w.servers[i]
			s.advance(w.now)
			var slow float64
			slow, s.state = w.sc.fault(i)
			if w.sc.Sudden {
				s.slow = slow
			}
			w.plan(s)
		}
	case probe:
		w.probed(e)
	case probed:
		w.told(e)
	case patience:
		if c := e.call; c.picking && !c.over {
			w.send(c, -1)
		}
	}
}

func (w *world) arrive() {
	// All chance of a call is drawn here, in the same order for every policy.
	rng := w.arrivals
	c := w.newCall()
	c.client = rng.IntN(len(w.clients))
	c.demand = w.demand.draw(rng)
	for i := range c.delays {
		c.delays[i] = delay(rng)
	}
	c.start = w.now
	c.counted = w.now >= w.measure
	if gap := w.exp(rng, w.gap()); w.now+gap < w.end {
		w.at(gap, event{kind: arrival})
	}
	c.events++
	w.deadlines = append(w.deadlines, c)

	if asker, ok := w.clients[c.client].(Asker); ok {
		w.buf = asker.Ask(w.now, w.buf[:0])
		if len(w.buf) > 0 {
			c.picking = true
			for _, s := range w.buf {
				w.ask(&question{client: c.client, server: s, call: c})
				c.asked++
			}
			w.at(askPatience, event{kind: patience, call: c})
			return
		}
	}
	w.send(c, -1)
}

func (w *world) receive(c *call) {
	if c.over {
		return // the deadline travels with the request: expired work is dropped
	}
	s := &w.servers[c.attempt.Server]
	s.advance(w.now)
	n := s.inFlight()
	if c.limit > 0 && int64(n) >= c.limit && s.state != silent {
		w.answer(c, s, Bounced)
		return
	}
	c.arrived, c.before = w.now, n
	if s.state == failing {
		s.held++
		w.at(mishapTakes, event{kind: mishap, server: int32(s.index), call: c})
		return
	}
	c.on = s
	s.add(c)
	w.plan(s)
}

// plan makes sure that there is an event when the first call of the server
// ends. One that turns out to be early plans again.
func (w *world) plan(s *server) {
	if next := s.next(w.now); next < s.due {
		s.due = next
		w.at(next-w.now, event{kind: completion, server: int32(s.index)})
	}
}

func (w *world) complete(s *server, at time.Duration) {
	if at != s.due {
		return
	}
	s.due = never
	s.advance(w.now)
	for s.state != silent && len(s.calls) > 0 && s.calls[0].ends <= s.received+1 {
		c := s.calls[0]
		s.remove(c)
		c.on = nil
		s.tracker.success(w.now, w.now-c.arrived, c.before)
		w.answer(c, s, Succeeded)
		w.release(c)
	}
	w.plan(s)
}

func (w *world) answer(c *call, s *server, o Outcome) {
	if c.over {
		return
	}
	c.outcome = o
	c.report = s.report(w.now)
	w.at(c.delays[w.leg(c)+1], event{kind: reply, call: c})
}

func (w *world) cancel(c *call) {
	s := c.on
	if s == nil {
		return
	}
	s.advance(w.now)
	s.remove(c)
	c.on = nil
	s.tracker.late(w.now, w.now-c.arrived)
	w.plan(s)
}
