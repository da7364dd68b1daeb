package sim

import (
	"math"
	"time"
)

// goZero is go-zero's P2C: square root of a moving mean of the latency (10 s)
// times the calls in flight; up to three draws until both are healthy; the
// loser is picked nevertheless if it was not for a second.
type goZero struct {
	lag     []float64
	success []float64
	last    []time.Duration
	picked  []time.Duration
}

func newGoZero(n int) *goZero {
	p := &goZero{
		lag: make([]float64, n), success: make([]float64, n),
		last: make([]time.Duration, n), picked: make([]time.Duration, n),
	}
	for i := range p.success {
		p.success[i] = 1000
	}
	return p
}

func (p *goZero) load(r *Rival, s int) float64 {
	return math.Floor(math.Sqrt(p.lag[s]+1)) * float64(r.pending[s]+1)
}

func (p *goZero) pick(r *Rival, now time.Duration, servers []int) int {
	a, b := two(r.env.Rand, servers)
	for range 2 {
		if p.success[a] > 500 && p.success[b] > 500 {
			break
		}
		a, b = two(r.env.Rand, servers)
	}
	if p.load(r, a) > p.load(r, b) {
		a, b = b, a
	}
	if now-p.picked[b] > time.Second {
		a = b
	}
	p.picked[a] = now
	return a
}

func (p *goZero) begin(time.Duration, *Attempt) {}

func (p *goZero) end(now time.Duration, a *Attempt, o Outcome, _ *Report) {
	s := a.Server
	w := math.Exp(-float64(now-p.last[s]) / float64(10*time.Second))
	p.last[s] = now
	if p.lag[s] == 0 {
		w = 0
	}
	p.lag[s] = math.Floor(p.lag[s]*w + float64(now-a.Began)*(1-w))
	good := 1000.
	if o != Succeeded {
		good = 0
	}
	p.success[s] = math.Floor(p.success[s]*w + good*(1-w))
}

// kratos is kratos's P2C: square root of a moving mean of the latency (600 ms,
// plus 5 ms) or of the mean age of its pending calls if more than half are older
// than that, times the calls in flight, over the success share; kept for 5 ms;
// the loser is picked nevertheless if it was not for three seconds.
type kratos struct {
	nodes []kratosNode
}

type kratosNode struct {
	lag, success float64
	stamp        time.Duration
	picked       time.Duration
	pending      []time.Duration
	weight       float64
	weighed      time.Duration
}

func newKratos(n int) *kratos {
	p := &kratos{nodes: make([]kratosNode, n)}
	for i := range p.nodes {
		p.nodes[i].success = 1000
		p.nodes[i].weighed = -time.Second
	}
	return p
}

func (n *kratosNode) weigh(now time.Duration) float64 {
	if now-n.weighed <= 5*time.Millisecond {
		return n.weight
	}
	inFlight := float64(len(n.pending) + 1)
	load := float64(100*time.Microsecond) * inFlight // nothing is known yet
	if n.lag > 0 {
		lag := n.lag
		late, total := 0, time.Duration(0)
		for _, began := range n.pending {
			if age := now - began; float64(age) > lag {
				late++
				total += age
			}
		}
		if late >= len(n.pending)/2+1 {
			lag = max(lag, float64(total)/float64(late))
		}
		load = math.Floor(math.Sqrt(lag+float64(5*time.Millisecond))) * inFlight
	}
	n.weight, n.weighed = n.success/load, now
	return n.weight
}

func (p *kratos) pick(r *Rival, now time.Duration, servers []int) int {
	a, b := two(r.env.Rand, servers)
	if p.nodes[b].weigh(now) > p.nodes[a].weigh(now) {
		a, b = b, a
	}
	if now-p.nodes[b].picked > 3*time.Second {
		return b
	}
	return a
}

func (p *kratos) begin(now time.Duration, a *Attempt) {
	n := &p.nodes[a.Server]
	n.picked = now
	n.pending = append(n.pending, now)
}

func (p *kratos) end(now time.Duration, a *Attempt, o Outcome, _ *Report) {
	n := &p.nodes[a.Server]
	for i, began := range n.pending {
		if began == a.Began {
			last := len(n.pending) - 1
			n.pending[i] = n.pending[last]
			n.pending = n.pending[:last]
			break
		}
	}
	w := math.Exp(-float64(now-n.stamp) / float64(600*time.Millisecond))
	n.stamp = now
	if n.lag == 0 {
		w = 0
	}
	n.lag = math.Floor(n.lag*w + float64(now-a.Began)*(1-w))
	good := 1000.
	if o != Succeeded {
		good = 0
	}
	n.success = math.Floor(n.success*w + good*(1-w))
}
