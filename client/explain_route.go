package client

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"plinth.internal/client/route"
	"plinth.internal/registry"
)

// RouteExplained is what has come of one of a service's routing rules.
type RouteExplained struct {
	// Name is the rule's name, [route.Ordinary] for the calls that match none;
	// those are listed last.
	Name string `json:"name"`
	// Why says in a sentence who takes the calls.
	Why string `json:"why"`
	// Match says which calls are meant, To which instances, and Fallback, any or
	// fail, what happens while none of these can be called.
	Match    string `json:"match"`
	To       string `json:"to"`
	Fallback string `json:"fallback"`
	// Instances is how many instances in the list are meant, Callable how many
	// of them can be called as far as known.
	Instances int `json:"instances"`
	Callable  int `json:"callable"`
	// Calls is how many calls matched since Since, which is when the rules were
	// changed last, or first used; Share is the part of all calls, from 0 to 1.
	Since time.Time `json:"since,omitzero"`
	Calls uint64    `json:"calls"`
	Share float64   `json:"share"`
	// FellBack is how many of their attempts went elsewhere because nobody was
	// left, Failed how many failed for that.
	FellBack uint64 `json:"fell_back"`
	Failed   uint64 `json:"failed"`
}

// routesOf are the names of the rules that name an instance.
func (f *fleetExplained) routesOf(inst *registry.Instance) []string {
	var names []string
	for i := range f.routes.Len() {
		if r := f.routes.At(i); r.Claims(inst.Version, inst.Metadata) {
			names = append(names, r.Name)
		}
	}
	return names
}

// reserved is what the sentence about an instance says of its rules.
func (e *InstanceExplained) reserved() string {
	switch len(e.Routes) {
	case 0:
		return ""
	case 1:
		return "; reserved for route " + e.Routes[0]
	}
	return "; reserved for routes " + strings.Join(e.Routes, ", ")
}

// explainRoutes tells of the rules, and of the ordinary calls behind them.
func (f *fleetExplained) explainRoutes(d *directory) []RouteExplained {
	if f.routes.Len() == 0 {
		return nil
	}
	book := d.routes.current.Load()
	if book != nil && !book.table.Equal(f.routes) {
		book = nil // no call has been made with the new ones
	}
	var all []RouteExplained
	var calls uint64
	for i := range f.routes.Len() + 1 {
		e := RouteExplained{Name: route.Ordinary, Match: "all other calls", To: wantedOrdinary, Fallback: string(route.FallbackAny)}
		if i < f.routes.Len() {
			r := f.routes.At(i)
			e.Name, e.Match, e.To = r.Name, r.Calls(), r.Instances()
			if r.Fails() {
				e.Fallback = string(route.FallbackFail)
			}
		}
		f.countRoute(&e)
		if book != nil {
			tally := book.tallies[i]
			e.Since, e.Calls, e.FellBack, e.Failed = book.since, tally.calls.Load(), tally.fell.Load(), tally.failed.Load()
			calls += e.Calls
		}
		all = append(all, e)
	}
	for i := range all {
		if calls > 0 {
			all[i].Share = float64(all[i].Calls) / float64(calls)
		}
		all[i].Why = all[i].why()
	}
	return all
}

// countRoute counts the instances that a rule names.
func (f *fleetExplained) countRoute(e *RouteExplained) {
	for i := range f.instances {
		inst := &f.instances[i]
		named := len(inst.Routes) == 0
		if e.Name != route.Ordinary {
			named = slices.Contains(inst.Routes, e.Name)
		}
		if !named || inst.verdict == verdictGone {
			continue
		}
		e.Instances++
		if inst.verdict.called() {
			e.Callable++
		}
	}
}

// why is the sentence about a rule.
func (e *RouteExplained) why() string {
	elsewhere := "others take its calls"
	if e.Fallback == string(route.FallbackFail) {
		elsewhere = "its calls fail"
	}
	var text string
	switch {
	case e.Name == route.Ordinary && e.Callable == 0:
		text = "route ordinary: no instance that is not reserved can be called, reserved ones take its calls"
	case e.Name == route.Ordinary:
		text = fmt.Sprintf("route ordinary: all other calls go to the %d that are not reserved", e.Callable)
	case e.Instances == 0:
		text = fmt.Sprintf("route %s: no instance has %s, %s", e.Name, e.To, elsewhere)
	case e.Callable == 0:
		text = fmt.Sprintf("route %s: none of the %d with %s can be called, %s", e.Name, e.Instances, e.To, elsewhere)
	default:
		text = fmt.Sprintf("route %s: %s go to %d of the %d with %s", e.Name, e.Match, e.Callable, e.Instances, e.To)
	}
	if e.Calls > 0 {
		text += fmt.Sprintf(", %.1f %% of the calls so far", 100*e.Share)
	}
	return text
}
