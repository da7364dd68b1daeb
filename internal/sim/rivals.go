package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// The rules of others, written again from what is published of them. They take
// no part in bouncing, and are told what their own implementations can see:
// the reports only go to those that read them.

// Rivals are the policies that the tables compare with.
func Rivals() []Policy {
	return []Policy{
		{"round_robin", func(e *Env) Client { return newRival(e, &roundRobin{next: e.Rand.IntN(e.Servers)}) }},
		{"least_req_p2c", func(e *Env) Client { return newRival(e, new(leastRequest)) }},
		{"peak_ewma", func(e *Env) Client {
			return newRival(e, &peakEWMA{costs: make([]float64, e.Servers), stamps: make([]time.Duration, e.Servers)})
		}},
		{"gozero_p2c", func(e *Env) Client { return newRival(e, newGoZero(e.Servers)) }},
		{"kratos_p2c", func(e *Env) Client { return newRival(e, newKratos(e.Servers)) }},
		{"grpc_wrr", func(e *Env) Client { return newRival(e, newWeighted(e.Servers)) }},
		{"prequal", func(e *Env) Client { return newRival(e, newPrequal(e, 16)) }},
		{"prequal_m5", func(e *Env) Client { return newRival(e, newPrequal(e, max(2, e.Servers/4))) }},
		{"oracle", func(e *Env) Client { return newRival(e, &oracle{e.world}) }},
	}
}

// rule is the part in which the rivals differ.
type rule interface {
	// pick chooses one of the servers.
	pick(r *Rival, now time.Duration, servers []int) int
	begin(now time.Duration, a *Attempt)
	end(now time.Duration, a *Attempt, o Outcome, rep *Report)
}

// Gate keeps servers from being picked by a [Rival], as an ejector does.
type Gate interface {
	// Open says whether the server may be picked.
	Open(now time.Duration, server int) bool
}

// Rival is a client with one of the published rules.
type Rival struct {
	// Gate is asked about each server before a pick; nil lets all through. If
	// it lets none through, all are candidates.
	Gate Gate

	rule    rule
	env     *Env
	pending []int
	all     []int
	open    []int
}

func newRival(e *Env, r rule) *Rival {
	all := make([]int, e.Servers)
	for i := range all {
		all[i] = i
	}
	return &Rival{rule: r, env: e, pending: make([]int, e.Servers), all: all}
}

// Pick implements [Client].
func (r *Rival) Pick(now time.Duration, _ int) int {
	servers := r.all
	if r.Gate != nil {
		r.open = r.open[:0]
		for _, s := range r.all {
			if r.Gate.Open(now, s) {
				r.open = append(r.open, s)
			}
		}
		if len(r.open) > 0 {
			servers = r.open
		}
	}
	return r.rule.pick(r, now, servers)
}

// Limit implements [Client]: a rival's calls are not bounced.
func (r *Rival) Limit(time.Duration) int64 { return 0 }

// Begin implements [Client].
func (r *Rival) Begin(now time.Duration, a *Attempt) {
	r.pending[a.Server]++
	r.rule.begin(now, a)
}

// End implements [Client].
func (r *Rival) End(now time.Duration, a *Attempt, o Outcome, rep *Report) {
	r.pending[a.Server]--
	r.rule.end(now, a, o, rep)
}

// Ask implements [Asker]: no rival waits for an answer.
func (r *Rival) Ask(_ time.Duration, buf []int) []int { return buf }

// Answer implements [Asker].
func (r *Rival) Answer(now time.Duration, server int, rep Report) {
	if p, ok := r.rule.(*prequal); ok {
		p.told(now, server, rep)
	}
}

// PickAmong implements [Asker].
func (r *Rival) PickAmong(now time.Duration, _ []int) int { return r.Pick(now, -1) }

// two draws two different servers; the same one twice if there is only one.
func two(rng *rand.Rand, servers []int) (a, b int) {
	n := len(servers)
	if n == 1 {
		return servers[0], servers[0]
	}
	i, j := rng.IntN(n), rng.IntN(n-1)
	if j >= i {
		j++
	}
	return servers[i], servers[j]
}

// unmoved is for rules that learn nothing.
type unmoved struct{}

func (unmoved) begin(time.Duration, *Attempt)                 {}
func (unmoved) end(time.Duration, *Attempt, Outcome, *Report) {}

type roundRobin struct {
	unmoved

	next int
}

func (p *roundRobin) pick(_ *Rival, _ time.Duration, servers []int) int {
	p.next++
	return servers[p.next%len(servers)]
}

// leastRequest is gRFC A48 with two choices.
type leastRequest struct{ unmoved }

func (leastRequest) pick(r *Rival, _ time.Duration, servers []int) int {
	a, b := two(r.env.Rand, servers)
	if r.pending[b] < r.pending[a] {
		return b
	}
	return a
}

// peakEWMA is finagle's: the cost rises at once to any higher latency and
// decays in 10 s, also by being looked at.
type peakEWMA struct {
	costs  []float64
	stamps []time.Duration
}

func (p *peakEWMA) observe(now time.Duration, s int, latency float64) {
	w := math.Exp(-float64(now-p.stamps[s]) / float64(10*time.Second))
	if latency > p.costs[s] {
		p.costs[s] = latency
	} else {
		p.costs[s] = p.costs[s]*w + latency*(1-w)
	}
	p.stamps[s] = now
}

func (p *peakEWMA) load(r *Rival, now time.Duration, s int) float64 {
	p.observe(now, s, 0)
	if p.costs[s] == 0 && r.pending[s] != 0 {
		return float64(math.MaxInt64>>16) + float64(r.pending[s])
	}
	return p.costs[s] * float64(r.pending[s]+1)
}

func (p *peakEWMA) pick(r *Rival, now time.Duration, servers []int) int {
	a, b := two(r.env.Rand, servers)
	if p.load(r, now, b) < p.load(r, now, a) {
		return b
	}
	return a
}

func (p *peakEWMA) begin(time.Duration, *Attempt) {}

func (p *peakEWMA) end(now time.Duration, a *Attempt, _ Outcome, _ *Report) {
	p.observe(now, a.Server, float64(now-a.Began))
}

// oracle knows everything as it is now, what is on its way included, and picks
// the server on which the call would run fastest. It is greedy, hence no bound.
type oracle struct{ world *world }

func (p *oracle) pick(r *Rival, _ time.Duration, servers []int) int {
	best, least := servers[0], math.Inf(1)
	first := r.env.Rand.IntN(len(servers))
	for i := range servers {
		at := servers[(first+i)%len(servers)]
		s := &p.world.servers[at]
		if s.state != working {
			continue
		}
		n := float64(p.world.inbound[at] + 1)
		cost := s.slow*max(1, n/s.cores) + n/s.cores/1e3 // the emptier one of two that are equally fast
		if cost < least {
			best, least = at, cost
		}
	}
	return best
}

func (p *oracle) begin(time.Duration, *Attempt)                 {}
func (p *oracle) end(time.Duration, *Attempt, Outcome, *Report) {}
