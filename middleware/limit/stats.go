package limit

import (
	"cmp"
	"slices"
	"time"

	"plinth.internal/middleware"
)

// shownCallers is how many callers [Stats] has.
const shownCallers = 20

// Stats is the state of a limiter at one moment.
type Stats struct {
	// Learns says that the limit that learns is on.
	Learns bool
	// Limit is the limit in use: what was learned, or the Max of the
	// configuration where that is lower; 0 = none.
	Limit int64
	// Parts are how many calls may be in flight when one of that criticality is
	// let in; 0 = any number.
	Parts map[middleware.Criticality]int64
	// InFlight is the number of calls in flight, Lasting that of streams and of
	// HTTP responses whose body is being sent.
	InFlight, Lasting int64
	// Latency is the mean of late, Usual the one when all is well; 0 = not known.
	Latency, Usual time.Duration
	// Rejected are how many calls were turned away so far, by all reasons.
	Rejected map[Reason]int64
	// Callers are those that make the most calls, at most 20.
	Callers []CallerStats
}

// CallerStats is one caller in [Stats].
type CallerStats struct {
	// Caller is its name.
	Caller string
	// Rate is how many calls a second it makes.
	Rate float64
	// Limited says that it asks for more than its share while there is not enough
	// for all.
	Limited bool
}

// Stats is the state at this moment.
func (l *Limiter) Stats() Stats {
	s := l.policy.stats()
	s.Rejected = map[Reason]int64{}
	for r, n := range l.counts {
		s.Rejected[r] = n.Load()
	}
	return s
}

// takeNews returns what there is to tell of callers, once.
func (p *policy) takeNews() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.callers.news
	p.callers.news = nil
	return news
}

func (p *policy) stats() Stats {
	h := p.held.load()
	s := Stats{InFlight: h.calls(), Lasting: h.lasting(), Latency: time.Duration(p.recent.Load()), Parts: map[middleware.Criticality]int64{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bounds.Load()
	s.Learns, s.Limit, s.Usual = !p.off, b.limit, time.Duration(p.learned.usual())
	for c, n := range b.normal {
		if !p.off || p.cap > 0 {
			s.Parts[middleware.Criticality(c)] = n
		} else {
			s.Parts[middleware.Criticality(c)] = 0
		}
	}
	for i := range p.callers.places {
		if c := &p.callers.places[i]; c.asked > 0 {
			s.Callers = append(s.Callers, CallerStats{Caller: c.shown(), Rate: perSecond(c.asked), Limited: c.over.Load()})
		}
	}
	slices.SortFunc(s.Callers, func(a, b CallerStats) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.Caller, b.Caller))
	})
	s.Callers = s.Callers[:min(len(s.Callers), shownCallers)]
	return s
}
