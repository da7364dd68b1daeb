package balancer

// Adaptive draws ten endpoints at random and picks the one of the lowest cost:
// latency, times the calls in flight on the server and one, times a penalty for
// failures, divided by the weight; and times a factor for instances of other zones
// ([Set.SetAwayFactor]). See [Endpoint.Stats] for the terms. The zero
// value is ready to use.
type Adaptive struct {
	// Rand is the source of random bits; nil means the runtime's own, which is
	// the right one everywhere but in a test with a fixed seed. It is called
	// concurrently.
	Rand func() uint64
}

// Pick implements [Policy].
func (p *Adaptive) Pick(l *List, r Request) int {
	var drawn [choices]int
	n := 0
	if len(r.Among) > 0 {
		n = l.among(drawn[:], &r)
	}
	if n == 0 {
		n = l.draw(drawn[:], &r, p.Rand)
	}
	if n == 0 {
		return -1
	}
	return l.cheapest(drawn[:n], r.Now, p.Rand)
}

// Precise is [Adaptive] for clients that make few calls to each instance: where
// all it knows of the candidates is old, it wants the load of some of them asked
// for before it picks. That costs a round trip on such a call, so it is not for
// handlers that take less than some milliseconds; there it does not ask.
type Precise struct {
	Adaptive
}

// Probe implements [Prober].
func (p *Precise) Probe(l *List, r Request, buf []int) []int {
	if l.Len() < 2 {
		return buf
	}
	f := l.endpoints[0].fleet
	if f.latency.value.load() < float64(ProbeLatency) {
		return buf
	}
	var drawn [choices]int
	n := l.draw(drawn[:], &r, p.Rand)
	at := f.at(r.Now)
	for _, i := range drawn[:n] {
		e := l.endpoints[i]
		if known := max(e.reportAt.Load(), e.latencyAt.Load()); known != 0 && at-known < int64(Stale) {
			return buf
		}
	}
	asked := 0
	for _, i := range drawn[:n] {
		// Whoever answered a call without a report would not report now either.
		if e := l.endpoints[i]; asked < ProbeCount && (e.reportAt.Load() != 0 || e.calls.Load() == 0) {
			buf = append(buf, i)
			asked++
		}
	}
	return buf
}
