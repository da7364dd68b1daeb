package client

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	policy "plinth.internal/client/balancer"
	"plinth.internal/client/route"
)

// Where an attempt of a call by a rule may go, first to last: to an instance of
// the rule that is not ejected and has not failed in this call; if the rule wants
// that, to an ordinary one that is not ejected; to whoever would get the call
// without rules. An ordinary call begins with the second step. The two functions
// below take these steps, for gRPC and for the transports that connect on demand.

// choose picks an instance, as the rules have it: its place, and the picker whose
// place it is.
func (p *picker) choose(now time.Time, a *attempt) (*picker, int, error) {
	r := a.route
	if r.book == nil {
		i, err := p.index(now, a, a.policy)
		return p, i, err
	}
	d := divided(&p.division, p.nodes, r.book, p.part)
	if r.rule != route.None {
		own, tried := d.parts[r.rule], false
		if len(own.nodes) > 0 {
			i, err := own.index(now, a, r.policy(a.named))
			if err != nil {
				return nil, 0, err
			}
			n := own.nodes[i]
			if a.takes(now, n) {
				r.tally().found()
				return own, i, nil
			}
			tried = n.record.Open(now)
		}
		if r.fails() && !tried && p.coming(r) {
			return nil, 0, balancer.ErrNoSubConnAvailable // until it is known who can be called
		}
		if err := p.view.fallBack(a, tried); err != nil {
			return nil, 0, err
		}
	}
	if ordinary := d.ordinary; len(ordinary.nodes) > 0 {
		i, err := ordinary.index(now, a, r.ordinary().policies.get(a.named))
		if err != nil {
			return nil, 0, err
		}
		if ordinary.nodes[i].record.Open(now) {
			r.ordinary().found()
			return ordinary, i, nil
		}
	}
	if r.rule == route.None && d.reserved {
		_ = p.view.fallBack(a, false) // ordinary calls do not fail for rules
	}
	i, err := p.index(now, a, a.policy)
	return p, i, err
}

// part is a picker of some of a picker's instances.
func (p *picker) part(of []int) *picker {
	q := &picker{petiole: p.petiole, view: p.view}
	for _, i := range of {
		q.add(p.nodes[i], p.children[i])
	}
	return q.ready()
}

// coming tells whether an instance that the call's rule names is being connected
// to and has not failed before, or is being asked for its health, or has answered
// since the picker was made. In each case another picker follows.
func (p *picker) coming(r routed) bool {
	b := p.petiole
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(p.view.nodes, func(n *node) bool {
		if !r.claims(n) {
			return false
		}
		l := b.links[n.addr]
		return l == nil || !l.failed && l.err == nil && !slices.Contains(p.nodes, n)
	})
}

// choose is picker.choose for transports that connect on demand.
func (v *view) choose(now time.Time, a *attempt) (*node, error) {
	r := a.route
	d := divided(&v.division, v.nodes, r.book, v.part)
	if r.rule != route.None {
		own, tried := d.parts[r.rule], false
		if len(own.nodes) > 0 {
			n, fit := own.rested(now, a, r.policy(a.named))
			if fit && a.takes(now, n) {
				r.tally().found()
				return n, nil
			}
			tried = fit && n.record.Open(now)
		}
		if err := v.fallBack(a, tried); err != nil {
			return nil, err
		}
	}
	if ordinary := d.ordinary; len(ordinary.nodes) > 0 {
		if n, fit := ordinary.rested(now, a, r.ordinary().policies.get(a.named)); fit && n.record.Open(now) {
			r.ordinary().found()
			return n, nil
		}
	}
	if r.rule == route.None && d.reserved {
		_ = v.fallBack(a, false) // ordinary calls do not fail for rules
	}
	n, _ := v.rested(now, a, a.policy)
	return n, nil
}

// part is a view of some of a view's instances.
func (v *view) part(of []int) *view {
	p := &view{service: v.service, known: true}
	endpoints := make([]*policy.Endpoint, 0, len(of))
	for _, i := range of {
		p.nodes = append(p.nodes, v.nodes[i])
		endpoints = append(endpoints, v.nodes[i].endpoint)
	}
	p.list = policy.NewList(endpoints)
	return p
}

// fallBack tells that nobody was left for an attempt, and returns the error that
// the attempt ends with if its rule wants it to fail. tried says that there would
// be somebody if he had not failed in this call.
func (v *view) fallBack(a *attempt, tried bool) error {
	r, tally := a.route, a.route.tally()
	told := RouteFellBack{
		Service: v.service.name, Protocol: r.book.protocol, Route: r.name(), Wanted: tally.wanted, Reason: RouteNobody, Failed: r.fails(),
	}
	for _, n := range v.byAddr {
		if r.claims(n) {
			told.Reason = RouteUncallable
			break
		}
	}
	if tried {
		told.Reason = RouteTried
	} else {
		told.First = !tally.empty.Swap(true)
	}
	if told.Failed {
		tally.failed.Add(1)
	} else {
		tally.fell.Add(1)
	}
	v.service.client.options.events(told)
	if told.Failed {
		return &routeError{told}
	}
	return nil
}

// why says for whom nobody was left, in a sentence without its end.
func (e RouteFellBack) why() string {
	switch e.Reason {
	case RouteUncallable:
		return "none of the instances with " + e.Wanted + " can be called"
	case RouteTried:
		return "all instances with " + e.Wanted + " that can be called failed in this call"
	default:
		return "no instance in the list has " + e.Wanted
	}
}

// detail is what the page of events says.
func (e RouteFellBack) detail() string {
	if e.Failed {
		return "route " + e.Route + ": " + e.why() + ", the call failed"
	}
	return "route " + e.Route + ": " + e.why() + ", another one took the call"
}

// routeError is the error of an attempt for which nobody was left. It was not
// sent to anybody.
type routeError struct{ told RouteFellBack }

func (e *routeError) Error() string {
	return fmt.Sprintf("call service %q by route %q: %s, and the route's fallback is fail; start one, or change the route", e.told.Service, e.told.Route, e.told.why())
}

// GRPCStatus gives the error its code, for the status package of grpc.
func (e *routeError) GRPCStatus() *status.Status { return status.New(codes.Unavailable, e.Error()) }
