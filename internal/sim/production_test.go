package sim_test

import (
	"strconv"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/outlier"
	"plinth.internal/internal/sim"
)

// epoch is where virtual time begins.
var epoch = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(now time.Duration) time.Time { return epoch.Add(now) }

// how says what of the production code a client uses.
type how struct {
	policy   func(*sim.Env) balancer.Policy
	reports  bool // servers tell their load
	bounce   bool
	ejection bool
	// away says which servers are in another zone than a client; nil for none.
	away func(client, server int) bool
	// subset says which servers a client knows; nil for all.
	subset func(client int) []int
	// sent is told where each attempt goes; nil for nobody.
	sent func(now time.Duration, client, server int)
}

// production drives the balancer, and the ejector if asked to.
type production struct {
	how

	client  int
	servers []int // the server at each place of the list
	places  []int // the place of each server
	set     balancer.Set
	list    *balancer.List
	pick    balancer.Policy
	prober  balancer.Prober
	records []*outlier.Record
	exclude [1]*balancer.Endpoint
}

// attempt is what an attempt carries along.
type attempt struct {
	call   balancer.Call
	ticket outlier.Ticket
}

func newProduction(e *sim.Env, h how) *production {
	p := &production{how: h, client: e.Index, places: make([]int, e.Servers)}
	if h.subset != nil {
		p.servers = h.subset(e.Index)
	} else {
		for i := range e.Servers {
			p.servers = append(p.servers, i)
		}
	}
	if h.ejection {
		p.records = newRecords(e)
	}
	members := make([]balancer.Member, len(p.servers))
	for i, server := range p.servers {
		p.places[server] = i
		members[i].Addr = "server-" + strconv.Itoa(server)
		members[i].Away = h.away != nil && h.away(e.Index, server)
		if h.ejection {
			members[i].Gate = p.records[server]
		}
	}
	if h.away != nil {
		p.set.SetAwayFactor(balancer.DefaultAwayFactor)
	}
	p.list = balancer.NewList(p.set.Update(epoch, members))
	p.pick = h.policy(e)
	p.prober, _ = p.pick.(balancer.Prober)
	return p
}

func newRecords(e *sim.Env) []*outlier.Record {
	members := make([]outlier.Member, e.Servers)
	for i := range members {
		members[i].Addr = "server-" + strconv.Itoa(i)
	}
	return outlier.New(outlier.Config{}, e.Rand.Float64).Update(epoch, members)
}

// Pick implements [sim.Client].
func (p *production) Pick(now time.Duration, exclude int) int {
	r := balancer.Request{Now: at(now)}
	if exclude >= 0 {
		p.exclude[0] = p.endpoint(exclude)
		r.Exclude = p.exclude[:]
	}
	return p.servers[p.pick.Pick(p.list, r)]
}

// endpoint is the record of a server.
func (p *production) endpoint(server int) *balancer.Endpoint { return p.list.At(p.places[server]) }

// PickAmong implements [sim.Asker].
func (p *production) PickAmong(now time.Duration, answered []int) int {
	among := make([]int, 0, balancer.ProbeCount)
	for _, server := range answered {
		among = append(among, p.places[server])
	}
	return p.servers[p.pick.Pick(p.list, balancer.Request{Now: at(now), Among: among})]
}

// Ask implements [sim.Asker].
func (p *production) Ask(now time.Duration, buf []int) []int {
	if p.prober == nil {
		return buf
	}
	buf = p.prober.Probe(p.list, balancer.Request{Now: at(now)}, buf)
	for i, place := range buf {
		buf[i] = p.servers[place]
	}
	return buf
}

// Answer implements [sim.Asker].
func (p *production) Answer(now time.Duration, server int, r sim.Report) {
	p.endpoint(server).Report(at(now), balancer.Report(r))
}

// Limit implements [sim.Client].
func (p *production) Limit(time.Duration) int64 {
	if !p.bounce {
		return 0
	}
	limit, _ := p.set.Bound()
	return limit
}

// Begin implements [sim.Client].
func (p *production) Begin(now time.Duration, a *sim.Attempt) {
	own, ok := a.Own.(*attempt)
	if !ok {
		own = new(attempt)
		a.Own = own
	}
	p.endpoint(a.Server).Begin(at(now), &own.call)
	if p.sent != nil {
		p.sent(now, p.client, a.Server)
	}
	if p.ejection {
		own.ticket = p.records[a.Server].Begin(at(now))
	}
}

// End implements [sim.Client].
func (p *production) End(now time.Duration, a *sim.Attempt, o sim.Outcome, r *sim.Report) {
	own := a.Own.(*attempt)
	e := p.endpoint(a.Server)
	outcome := balancer.Ignored
	switch o {
	case sim.Bounced:
	case sim.Succeeded:
		outcome = balancer.Succeeded
	case sim.Failed, sim.TimedOut:
		outcome = balancer.Failed
	}
	e.End(at(now), &own.call, outcome)
	if r != nil && p.reports {
		e.Report(at(now), balancer.Report(*r))
	}
	if p.ejection {
		p.records[a.Server].End(at(now), own.ticket, outlier.Outcome(outcome))
	}
}

// ejected puts the production ejector around a rival.
type ejected struct {
	*sim.Rival

	records []*outlier.Record
}

// Open implements [sim.Gate].
func (e *ejected) Open(now time.Duration, server int) bool { return e.records[server].Open(at(now)) }

// Begin implements [sim.Client].
func (e *ejected) Begin(now time.Duration, a *sim.Attempt) {
	e.Rival.Begin(now, a)
	ticket, ok := a.Own.(*outlier.Ticket)
	if !ok {
		ticket = new(outlier.Ticket)
		a.Own = ticket
	}
	*ticket = e.records[a.Server].Begin(at(now))
}

// End implements [sim.Client].
func (e *ejected) End(now time.Duration, a *sim.Attempt, o sim.Outcome, r *sim.Report) {
	e.Rival.End(now, a, o, r)
	outcome := outlier.Failed
	if o == sim.Succeeded {
		outcome = outlier.Succeeded
	}
	e.records[a.Server].End(at(now), *a.Own.(*outlier.Ticket), outcome)
}

// rivals are the published rules, with the ejector if asked for.
func rivals(ejection bool) []sim.Policy {
	all := sim.Rivals()
	if !ejection {
		return all
	}
	for i, p := range all {
		all[i].New = func(e *sim.Env) sim.Client {
			rival, ok := p.New(e).(*sim.Rival)
			if !ok {
				return p.New(e)
			}
			c := &ejected{Rival: rival, records: newRecords(e)}
			rival.Gate = c
			return c
		}
	}
	return all
}

// ours are the production policies.
func ours(ejection bool) []sim.Policy {
	adaptive := func(e *sim.Env) balancer.Policy { return &balancer.Adaptive{Rand: e.Rand.Uint64} }
	precise := func(e *sim.Env) balancer.Policy {
		return &balancer.Precise{Adaptive: balancer.Adaptive{Rand: e.Rand.Uint64}}
	}
	variants := []struct {
		name string
		how  how
	}{
		{"adaptive", how{policy: adaptive, reports: true, bounce: true}},
		{"adaptive, no bounce", how{policy: adaptive, reports: true}},
		{"adaptive, no reports", how{policy: adaptive, bounce: true}},
		{"precise", how{policy: precise, reports: true, bounce: true}},
		{"our round_robin", how{policy: func(e *sim.Env) balancer.Policy {
			p := &balancer.RoundRobin{Rand: e.Rand.Uint64}
			turn(e, p)
			return p
		}}},
		{"our least_request", how{policy: func(e *sim.Env) balancer.Policy { return &balancer.LeastRequest{Rand: e.Rand.Uint64} }}},
		{"our weighted", how{reports: true, policy: func(e *sim.Env) balancer.Policy {
			p := &balancer.Weighted{Rand: e.Rand.Uint64}
			turn(e, p)
			return p
		}}},
	}
	policies := make([]sim.Policy, 0, len(variants))
	for _, v := range variants {
		v.how.ejection = ejection
		policies = append(policies, sim.Policy{Name: v.name, New: func(e *sim.Env) sim.Client { return newProduction(e, v.how) }})
	}
	return policies
}

// turn lets a policy that takes one server after the other begin anywhere, as it
// does in production, but by the run's own chance.
func turn(e *sim.Env, p balancer.Policy) {
	members := make([]balancer.Member, e.Servers)
	for i := range members {
		members[i].Addr = strconv.Itoa(i)
	}
	list := balancer.NewList(new(balancer.Set).Update(epoch, members))
	for range e.Rand.IntN(e.Servers) {
		p.Pick(list, balancer.Request{Now: epoch})
	}
}
