package sim

import "time"

// call is one call of a client, with at most two attempts.
type call struct {
	client  int
	demand  float64
	delays  [4]time.Duration // there and back, for each attempt
	start   time.Duration
	counted bool // belongs to the measured time
	attempt Attempt
	second  bool
	limit   int64 // of the attempt under way
	sent    bool  // an attempt is under way

	over    bool // the client has its outcome
	events  int  // that refer to it
	asked   int  // probes without an answer
	picking bool // waits for probes
	answers []int

	// On the server.
	on      *server
	ends    float64
	place   int
	arrived time.Duration
	before  int // calls that were there before

	outcome Outcome // of the answer under way
	report  Report
}

// question is one probe.
type question struct {
	client int
	server int
	call   *call // that waits for it; nil if none does
	report Report
}

func (w *world) newCall() *call {
	if n := len(w.free); n > 0 {
		c := w.free[n-1]
		w.free = w.free[:n-1]
		*c = call{attempt: Attempt{Own: c.attempt.Own}, answers: c.answers[:0]}
		return c
	}
	return new(call)
}

// release takes back a call that nobody refers to any more.
func (w *world) release(c *call) {
	if c.over && c.events == 0 && c.on == nil {
		c.events = -1 // never twice
		w.free = append(w.free, c)
	}
}

func (w *world) send(c *call, exclude int) {
	client := w.clients[c.client]
	c.picking = false
	if !c.second {
		c.limit = client.Limit(w.now)
	} else {
		c.limit = 0
	}
	if asker, ok := client.(Asker); ok && len(c.answers) > 0 && exclude < 0 {
		c.attempt.Server = asker.PickAmong(w.now, c.answers)
	} else {
		c.attempt.Server = client.Pick(w.now, exclude)
	}
	c.attempt.Began = w.now
	c.sent = true
	w.inbound[c.attempt.Server]++
	client.Begin(w.now, &c.attempt)
	if c.counted {
		w.result.Sent[c.attempt.Server]++
	}
	w.at(c.delays[w.leg(c)], event{kind: request, call: c})
}

// leg is the index of the delay of the attempt's request.
func (w *world) leg(c *call) int {
	if c.second {
		return 2
	}
	return 0
}

func (w *world) replied(c *call) {
	if c.over {
		return
	}
	w.finish(c, c.outcome, &c.report)
	if c.outcome == Bounced {
		if c.counted {
			w.result.Bounces++
		}
		c.second = true
		w.send(c, c.attempt.Server)
		return
	}
	c.over = true
	if c.counted {
		w.result.add(w.now-c.start, c.outcome)
	}
}

// finish ends the attempt under way.
func (w *world) finish(c *call, o Outcome, r *Report) {
	c.sent = false
	w.inbound[c.attempt.Server]--
	w.clients[c.client].End(w.now, &c.attempt, o, r)
}

func (w *world) timeout(c *call) {
	if c.over {
		return
	}
	c.over = true
	if c.sent {
		w.finish(c, TimedOut, nil)
		w.at(delay(w.wire), event{kind: cancel, call: c})
	}
	if c.counted {
		w.result.add(Deadline, TimedOut)
	}
}

// ask sends a probe.
func (w *world) ask(q *question) {
	if w.now >= w.measure {
		w.result.Probes++
	}
	w.at(delay(w.wire), event{kind: probe, probe: q, call: q.call})
}

func (w *world) probed(e *event) {
	s := &w.servers[e.probe.server]
	if s.state == silent {
		return
	}
	s.advance(w.now)
	e.probe.report = s.report(w.now)
	if e.probe.call == nil {
		e.probe.report.Latency = s.tracker.near(s.inFlight())
	}
	w.at(delay(w.wire), event{kind: probed, probe: e.probe, call: e.call})
}

func (w *world) told(e *event) {
	q := e.probe
	if asker, ok := w.clients[q.client].(Asker); ok {
		asker.Answer(w.now, q.server, q.report)
	}
	c := q.call
	if c == nil {
		return
	}
	c.asked--
	c.answers = append(c.answers, q.server)
	if c.picking && !c.over && c.asked == 0 {
		w.send(c, -1)
	}
}
