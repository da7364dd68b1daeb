package client

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/baggage"

	"plinth.internal/client/balancer"
	"plinth.internal/client/route"
	"plinth.internal/middleware"
)

// routed is where a call may go, decided once for all its attempts. The zero value
// is that of a call to a service without rules.
type routed struct {
	book *routeBook // nil = no rules
	rule int        // that the call matches, route.None for none
}

// routeBook is what is known of the rules in use, over one protocol.
type routeBook struct {
	// Immutable.
	table    *route.Table
	protocol string
	since    time.Time
	tallies  []*routeTally // by rule, and for the ordinary calls behind them
}

// routeTally is what came of one rule, since the rules were changed last.
type routeTally struct {
	// Immutable.
	wanted   string // which instances, in words
	policies policies

	calls  atomic.Uint64           // that matched
	fell   atomic.Uint64           // attempts for which nobody was left, and others took them
	failed atomic.Uint64           // attempts for which nobody was left, and nobody else was wanted
	empty  atomic.Bool             // nobody was left for the last attempt
	nodes  atomic.Pointer[[]*node] // the instances that could be picked last
	limit  atomic.Pointer[bound]
}

// wantedOrdinary says which instances ordinary calls are for.
const wantedOrdinary = "no route that names it"

// routeBooks keeps the book of the rules in use.
type routeBooks struct {
	current atomic.Pointer[routeBook]
	mu      sync.Mutex // serialises writers
}

// of returns the book for a table. What it counts goes on while the rules are the
// same, whatever else was configured anew.
func (b *routeBooks) of(table *route.Table, protocol string) *routeBook {
	if have := b.current.Load(); have != nil && have.table == table {
		return have
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.current.Load()
	if have != nil && have.table.Equal(table) {
		if have.table == table { // another goroutine was faster
			return have
		}
		next := &routeBook{table: table, protocol: protocol, since: have.since, tallies: have.tallies}
		b.current.Store(next)
		return next
	}
	next := &routeBook{table: table, protocol: protocol, since: time.Now()}
	for i := range table.Len() + 1 {
		tally := &routeTally{wanted: wantedOrdinary, policies: newPolicies()}
		if i < table.Len() {
			tally.wanted = table.At(i).Instances()
		}
		next.tallies = append(next.tallies, tally)
	}
	b.current.Store(next)
	return next
}

// carried is the baggage of a call.
type carried struct{ baggage.Baggage }

// Value returns the value of a member.
func (c carried) Value(key string) string { return c.Member(key).Value() }

// route decides where a call may go.
func (d *directory) route(ctx context.Context, call *middleware.Call, table *route.Table) routed {
	if table.Len() == 0 || d == d.service.grpc && d.service.target != "" { // there nobody is picked by us
		return routed{}
	}
	r := routed{book: d.routes.of(table, d.protocol)}
	r.rule = table.Match(route.Call{Headers: call, Baggage: carried{baggage.FromContext(ctx)}})
	r.tally().calls.Add(1)
	return r
}

// tally is that of the call's rule, or of the ordinary calls.
func (r routed) tally() *routeTally {
	if r.rule == route.None {
		return r.ordinary()
	}
	return r.book.tallies[r.rule]
}

func (r routed) ordinary() *routeTally { return r.book.tallies[len(r.book.tallies)-1] }

// policy is the one of the name for the instances of the call's rule.
func (r routed) policy(name string) balancer.Policy { return r.tally().policies.get(name) }

// name is that of the call's rule.
func (r routed) name() string {
	if r.rule == route.None {
		return route.Ordinary
	}
	return r.book.table.At(r.rule).Name
}

// fails reports whether the call is to fail where others fall back.
func (r routed) fails() bool { return r.rule != route.None && r.book.table.At(r.rule).Fails() }

// claims reports whether an instance is one that the call is for.
func (r routed) claims(n *node) bool {
	if r.rule != route.None {
		return r.book.table.At(r.rule).Claims(n.version, n.metadata)
	}
	return !r.book.reserves(n.version, n.metadata)
}

// reserves reports whether a rule names an instance.
func (b *routeBook) reserves(version string, metadata map[string]string) bool {
	for i := range b.table.Len() {
		if b.table.At(i).Claims(version, metadata) {
			return true
		}
	}
	return false
}

// found notes that there is somebody for a call.
func (t *routeTally) found() {
	if t.empty.Load() { // so that nothing is written for every call
		t.empty.Store(false)
	}
}

// division is a list of instances as the rules divide it: immutable. P is what a
// transport picks from.
type division[P any] struct {
	table    *route.Table
	ordinary P
	parts    []P  // by rule
	reserved bool // a rule names somebody
}

// divided returns the division of a list by the rules of a book, which is kept in
// place until the list or the rules change.
func divided[P any](place *atomic.Pointer[division[P]], nodes []*node, book *routeBook, part func(of []int) P) *division[P] {
	if have := place.Load(); have != nil && have.table == book.table {
		return have
	}
	by := book.table.Divide(len(nodes), func(i int) (string, map[string]string) { return nodes[i].version, nodes[i].metadata })
	next := &division[P]{table: book.table, ordinary: part(by.Ordinary), reserved: len(by.Ordinary) < len(nodes)}
	for _, of := range by.Rules {
		next.parts = append(next.parts, part(of))
	}
	for i, of := range append(by.Rules, by.Ordinary) {
		own := make([]*node, len(of))
		for k, at := range of {
			own[k] = nodes[at]
		}
		book.tallies[i].nodes.Store(&own)
	}
	place.Store(next) // two who do this at the same time make the same
	return next
}

// bound is the load from which an instance hands a rule's first attempts back.
type bound struct {
	at    time.Time
	limit int64
	ok    bool
}

// boundAge is how long a bound is used.
const boundAge = 100 * time.Millisecond

// bound is the limit of balancer.Set.Bound for a rule's own instances, which may
// all be busier than the mean of the whole fleet. There is none where the rule
// names no two instances: there is nobody to hand a call to.
func (d *directory) bound(now time.Time, r routed) (int64, bool) {
	if r.book == nil {
		return d.set.Bound()
	}
	tally := r.tally()
	if have := tally.limit.Load(); have != nil && now.Sub(have.at) < boundAge {
		return have.limit, have.ok
	}
	next := &bound{at: now}
	if next.limit, next.ok = d.set.Bound(); next.ok {
		next.limit, next.ok = tally.scale(now, next.limit, d.set.Fleet().Load)
	}
	tally.limit.Store(next)
	return next.limit, next.ok
}

// scale makes the limit of the fleet that of the rule's instances, by their mean
// loads.
func (t *routeTally) scale(now time.Time, limit int64, fleet float64) (int64, bool) {
	nodes := t.nodes.Load()
	if nodes == nil || len(*nodes) < 2 {
		return 0, false
	}
	var load float64
	reporting := 0
	for _, n := range *nodes {
		if s := n.endpoint.Stats(now); s.Reporting {
			load += s.Load
			reporting++
		}
	}
	if reporting == 0 {
		return 0, false
	}
	return int64(math.Round(float64(limit) * (load/float64(reporting) + 1) / (fleet + 1))), true
}

// takes tells whether an instance that was picked from a rule's own is one that a
// policy would pick by choice: it is not ejected, and has not failed in this call.
// Policies prefer those, so that the answer is about all of them.
func (a *attempt) takes(now time.Time, n *node) bool {
	return n.record.Open(now) && !slices.Contains(a.tried, n.endpoint)
}
