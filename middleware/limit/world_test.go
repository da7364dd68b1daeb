package limit

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"plinth.internal/middleware"
)

// world is one server with the policy in front of it, in virtual time. Calls come at
// random at a given rate, whatever becomes of those before.
type world struct {
	now    time.Duration
	events agenda
	seq    int
	random *rand.Rand
	policy *policy
	server server
	before func() // looks at the world before every call

	deadline time.Duration
	calls    []*call
}

// call is one that came.
type call struct {
	at     time.Duration
	source *source
	shed   Reason
	done   bool
	good   bool // served in time
}

// source is where calls come from.
type source struct {
	name  string
	class middleware.Criticality
	rate  func(t time.Duration) float64 // a second
}

// server is what works on calls that were let in.
type server interface {
	serve(w *world, c *call)
}

type event struct {
	at  time.Duration
	seq int
	run func()
}

type agenda []event

func (a *agenda) Len() int { return len(*a) }
func (a *agenda) Less(i, j int) bool {
	x, y := &(*a)[i], &(*a)[j]
	return x.at < y.at || x.at == y.at && x.seq < y.seq
}
func (a *agenda) Swap(i, j int) { (*a)[i], (*a)[j] = (*a)[j], (*a)[i] }
func (a *agenda) Push(x any)    { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	old := *a
	e := old[len(old)-1]
	*a = old[:len(old)-1]
	return e
}

func newWorld(seed uint64, cpus int, s server) *world {
	return &world{
		now: time.Millisecond, random: rand.New(rand.NewPCG(seed, 1)), server: s,
		policy: newPolicy(FloorPerCPU*cpus, StartPerCPU*cpus), deadline: time.Second,
	}
}

// after has fn run when d has passed.
func (w *world) after(d time.Duration, fn func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, fn})
}

// run lets calls come from the sources until the end, and waits for their ends.
func (w *world) run(length time.Duration, sources ...*source) {
	for _, s := range sources {
		w.next(s, length)
	}
	for len(w.events) > 0 {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.run()
	}
}

func (w *world) next(s *source, end time.Duration) {
	rate := s.rate(w.now)
	if rate <= 0 {
		w.after(10*time.Millisecond, func() { w.next(s, end) })
		return
	}
	pause := time.Duration(w.random.ExpFloat64() / rate * float64(time.Second))
	w.after(pause, func() {
		if w.now >= end {
			return
		}
		w.arrive(s)
		w.next(s, end)
	})
}

func (w *world) arrive(s *source) {
	if w.before != nil {
		w.before()
	}
	c := &call{at: w.now, source: s}
	w.calls = append(w.calls, c)
	who := w.policy.callers.find(s.name, false)
	if c.shed = w.policy.admit(w.now, s.class, who, false); c.shed == "" {
		w.server.serve(w, c)
	}
}

// finish ends a call.
func (w *world) finish(c *call) {
	o := served
	c.done, c.good = true, w.now-c.at <= w.deadline
	if !c.good {
		o = late
	}
	w.policy.end(w.now, c.at, o)
}

// pool is a number of workers with a queue in the order of arrival.
type pool struct {
	free []time.Duration // when each worker is
	work func(r *rand.Rand) time.Duration
}

func (p *pool) serve(w *world, c *call) {
	first := 0
	for i, at := range p.free {
		if at < p.free[first] {
			first = i
		}
	}
	p.free[first] = max(p.free[first], w.now) + p.work(w.random)
	w.after(p.free[first]-w.now, func() { w.finish(c) })
}

// wait does nothing but wait for somebody else.
type wait struct {
	work func(r *rand.Rand) time.Duration
}

func (s *wait) serve(w *world, c *call) { w.after(s.work(w.random), func() { w.finish(c) }) }

// processor shares its cores evenly among its calls, which first wait for somebody
// else.
type processor struct {
	cores    float64
	work     func(r *rand.Rand) time.Duration
	before   func() time.Duration // of waiting
	running  []*job
	advanced time.Duration
	version  int
}

type job struct {
	call *call
	left float64
}

func (p *processor) serve(w *world, c *call) {
	begin := func() {
		p.advance(w)
		p.running = append(p.running, &job{c, float64(p.work(w.random))})
		p.schedule(w)
	}
	if p.before != nil {
		w.after(p.before(), begin)
		return
	}
	begin()
}

func (p *processor) speed() float64 { return min(1, p.cores/float64(len(p.running))) }

func (p *processor) advance(w *world) {
	d := float64(w.now-p.advanced) * p.speed()
	p.advanced = w.now
	for _, j := range p.running {
		j.left -= d
	}
}

// schedule plans the next end.
func (p *processor) schedule(w *world) {
	p.version++
	version, least := p.version, math.Inf(1)
	for _, j := range p.running {
		least = min(least, j.left)
	}
	if math.IsInf(least, 1) {
		return
	}
	w.after(time.Duration(math.Ceil(max(0, least)/p.speed())), func() {
		if version != p.version {
			return
		}
		p.advance(w)
		kept := p.running[:0]
		var over []*job
		for _, j := range p.running {
			if j.left <= 1 {
				over = append(over, j)
			} else {
				kept = append(kept, j)
			}
		}
		p.running = kept
		p.schedule(w)
		for _, j := range over {
			w.finish(j.call)
		}
	})
}

// fixed and random are how long work takes.
func fixed(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

func random(mean time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * float64(mean)) }
}

// tally is what became of calls.
type tally struct{ calls, good, shed int }

func (t tally) String() string {
	return fmt.Sprintf("%d calls, %.2f %% good, %.2f %% turned away", t.calls, 100*t.goodShare(), 100*t.shedShare())
}

func (t tally) goodShare() float64 { return float64(t.good) / float64(max(1, t.calls)) }
func (t tally) shedShare() float64 { return float64(t.shed) / float64(max(1, t.calls)) }

// tally counts the calls that came from one moment to another and that a filter, nil
// for none, lets through.
func (w *world) tally(from, to time.Duration, only func(*call) bool) tally {
	var t tally
	for _, c := range w.calls {
		if c.at < from || c.at >= to || only != nil && !only(c) {
			continue
		}
		t.calls++
		if c.good {
			t.good++
		}
		if c.shed != "" {
			t.shed++
		}
	}
	return t
}

// perSecond is how many good calls there were in a second.
func (t tally) perSecond(d time.Duration) float64 { return float64(t.good) / d.Seconds() }
