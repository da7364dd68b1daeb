package sim

import (
	"math"
	"slices"
	"time"
)

// weighted is gRPC's weighted_round_robin (gRFC A58) with reports for each
// call (A51): weight = qps/(utilization + eps/qps), looked at once a second,
// used 10 s after the first report and until 3 min after the last.
type weighted struct {
	nodes   []weightedNode
	weights []float64
	due     []float64 // whose turn it is: the one of the least, earliest deadline first
	updated time.Duration
}

type weightedNode struct {
	weight float64
	since  time.Duration // of the first report, -1 before
	last   time.Duration
}

func newWeighted(n int) *weighted {
	p := &weighted{
		nodes: make([]weightedNode, n), weights: make([]float64, n), due: make([]float64, n),
		updated: -time.Minute,
	}
	for i := range p.nodes {
		p.nodes[i].since = -1
	}
	return p
}

func (p *weighted) update(r *Rival, now time.Duration) {
	p.updated = now
	sum, known := 0., 0
	for i := range p.nodes {
		n := &p.nodes[i]
		p.weights[i] = 0
		if n.since < 0 || now-n.since < 10*time.Second || now-n.last > 3*time.Minute {
			continue
		}
		p.weights[i] = n.weight
		sum += n.weight
		known++
	}
	for i, weight := range p.weights {
		switch {
		case known < 2:
			p.weights[i] = 1
		case weight == 0:
			p.weights[i] = sum / float64(known)
		}
		p.due[i] = r.env.Rand.Float64() / p.weights[i] // a random start
	}
}

func (p *weighted) pick(r *Rival, now time.Duration, servers []int) int {
	if now-p.updated >= time.Second {
		p.update(r, now)
	}
	best := servers[0]
	for _, s := range servers {
		if p.due[s] < p.due[best] {
			best = s
		}
	}
	p.due[best] += 1 / p.weights[best]
	return best
}

func (p *weighted) begin(time.Duration, *Attempt) {}

func (p *weighted) end(now time.Duration, a *Attempt, _ Outcome, rep *Report) {
	if rep == nil || rep.QPS <= 0 || rep.Utilization <= 0 {
		return
	}
	n := &p.nodes[a.Server]
	n.weight = rep.QPS / (rep.Utilization + rep.EPS/rep.QPS)
	n.last = now
	if n.since < 0 {
		n.since = now
	}
}

// prequal is the asynchronous mode of the Prequal paper: three probes for each
// call, a pool of their answers, one taken out for each call (oldest and worst
// in turn), answers used again as often as the paper's formula says; hot and
// cold by the 0.84 quantile of the calls in flight, cold by least latency, all
// hot by fewest calls. Without the paper's error aversion.
type prequal struct {
	size      int
	reuse     float64
	pool      []probeAnswer
	seen      []int64 // calls in flight of the last probes
	at        int
	worstNext bool
}

type probeAnswer struct {
	server  int
	at      time.Duration
	calls   int64
	latency time.Duration
	uses    float64
}

func newPrequal(e *Env, size int) *prequal {
	// reuse = max(1, (1+delta)/((1-m/n) probes - removed)), delta 1. Where the
	// pool is so large for the fleet that the formula has no positive answer,
	// answers are used until they are too old.
	reuse := math.Inf(1)
	if d := (1-float64(size)/float64(e.Servers))*3 - 1; d > 0 {
		reuse = max(1, 2/d)
	}
	return &prequal{size: size, reuse: reuse}
}

func (p *prequal) told(now time.Duration, server int, rep Report) {
	if len(p.seen) < 128 {
		p.seen = append(p.seen, rep.InFlight)
	} else {
		p.seen[p.at%len(p.seen)] = rep.InFlight
	}
	p.at++
	if len(p.pool) >= p.size {
		p.remove(p.oldest())
	}
	p.pool = append(p.pool, probeAnswer{server, now, rep.InFlight, rep.Latency, p.reuse})
}

func (p *prequal) remove(i int) { p.pool = slices.Delete(p.pool, i, i+1) }

// oldest is the first: answers are appended.
func (p *prequal) oldest() int { return 0 }

func (p *prequal) hot() int64 {
	if len(p.seen) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(p.seen))
	return sorted[min(int(0.84*float64(len(sorted))), len(sorted)-1)]
}

func (p *prequal) worst(hot int64) int {
	worst := 0
	for i := range p.pool {
		if better(&p.pool[worst], &p.pool[i], hot) {
			worst = i
		}
	}
	return worst
}

// better says whether a is to be picked rather than b.
func better(a, b *probeAnswer, hot int64) bool {
	hotA, hotB := a.calls > hot, b.calls > hot
	switch {
	case hotA != hotB:
		return hotB
	case hotA:
		return a.calls < b.calls
	}
	return a.latency < b.latency
}

func (p *prequal) pick(r *Rival, now time.Duration, servers []int) int {
	rng := r.env.Rand
	for range 3 {
		r.env.world.ask(&question{client: r.env.Index, server: servers[rng.IntN(len(servers))]})
	}
	p.pool = slices.DeleteFunc(p.pool, func(a probeAnswer) bool {
		return now-a.at > time.Second || !slices.Contains(servers, a.server)
	})
	if len(p.pool) < 2 {
		return servers[rng.IntN(len(servers))]
	}
	hot := p.hot()
	best := 0
	for i := range p.pool {
		if better(&p.pool[i], &p.pool[best], hot) {
			best = i
		}
	}
	chosen := &p.pool[best]
	server := chosen.server
	chosen.calls++
	chosen.uses--
	if chosen.uses < 1 && chosen.uses < rng.Float64() {
		p.remove(best) // a fraction of a use is a chance of one
	}
	if len(p.pool) > 0 {
		if p.worstNext {
			p.remove(p.worst(hot))
		} else {
			p.remove(p.oldest())
		}
		p.worstNext = !p.worstNext
	}
	return server
}

func (p *prequal) begin(time.Duration, *Attempt) {}

func (p *prequal) end(time.Duration, *Attempt, Outcome, *Report) {}
