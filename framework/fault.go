package framework

import (
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"plinth.internal/middleware"
	"plinth.internal/middleware/fault"
)

// faultsCheck is the name of the faults on demand among the checks of /health.
const faultsCheck = "faults"

// FaultsChanged says which faults are injected on purpose from now on. It is said
// at the start where faults are allowed, and at each change.
type FaultsChanged struct {
	// Rules are the names of the rules in use.
	Rules []string
	// Headers says that callers may ask for faults.
	Headers bool
}

// FaultUnserved says that a rule is for a method that this service does not have:
// it hits no call.
type FaultUnserved struct {
	// Rule is the name of the rule, Method what it is for.
	Rule, Method string
	// Nearest is the method or route that is most like it, "" for none.
	Nearest string
}

func (FaultsChanged) event() {}
func (FaultUnserved) event() {}

// newFaults makes the injector; nil where faults are not allowed.
func (a *App) newFaults() (*fault.Injector, error) {
	s := a.settings.Server.Fault
	if !s.Allow {
		return nil, nil
	}
	i := &fault.Injector{OnFault: func(_ *middleware.Call, rule string, kind fault.Kind) { a.metrics.CountFault(rule, string(kind)) }}
	if err := i.Set(s.faultRules(), s.Headers); err != nil {
		return nil, &configError{err}
	}
	return i, nil
}

// faultMiddleware is nil where faults are not allowed: it costs nothing then.
func (a *App) faultMiddleware() middleware.Middleware {
	if a.faults == nil {
		return nil
	}
	return a.faults.Middleware()
}

// faultListener lets the injector cut connections.
func (a *App) faultListener() func(string, net.Listener) net.Listener {
	if a.faults == nil {
		return nil
	}
	return func(_ string, l net.Listener) net.Listener { return a.faults.Listener(l) }
}

// applyFaults brings other rules into effect.
func (a *App) applyFaults(old, current faultSettings) {
	if a.faults == nil || old.Headers == current.Headers && reflect.DeepEqual(old.Rules, current.Rules) {
		return
	}
	a.fault.Store(&current)
	_ = a.faults.Set(current.faultRules(), current.Headers) // validated with the rest
	a.tellFaults()
}

// tellFaults warns of what may happen to calls, and of rules that nothing happens
// by. It is called once everything is registered, and at each change.
func (a *App) tellFaults() {
	if a.faults == nil {
		return
	}
	s := a.faultsInUse()
	a.emit(faultsChanged(s))
	for _, u := range a.unservedFaults(s) {
		a.emit(u)
	}
}

// unservedFaults are the rules whose method or route is not served here.
func (a *App) unservedFaults(s faultSettings) []FaultUnserved {
	served, more := a.server.Patterns()
	for service, info := range a.server.Services() {
		for _, m := range info.Methods {
			served = append(served, service+"/"+m.Name)
		}
	}
	var out []FaultUnserved
	for _, r := range s.faultRules() {
		_, path, route := strings.Cut(r.Method, " ")
		if r.Method == "" || slices.ContainsFunc(served, r.For) || more && route && strings.HasPrefix(path, "/") {
			continue
		}
		out = append(out, FaultUnserved{Rule: r.Name, Method: r.Method, Nearest: mostLike(r.Method, served)})
	}
	return out
}

// mostLike is the name that has the most in common with another one at its begin
// and its end, "" where that is not more than half of it.
func mostLike(name string, names []string) string {
	best, most := "", len(name)/2
	for _, other := range slices.Sorted(slices.Values(names)) {
		same, shorter := 0, min(len(name), len(other))
		for same < shorter && name[same] == other[same] {
			same++
		}
		for end := 1; same < shorter && name[len(name)-end] == other[len(other)-end]; end++ {
			same++
		}
		if same > most {
			best, most = other, same
		}
	}
	return best
}

// faultsInUse are the faults as they are now.
func (a *App) faultsInUse() faultSettings {
	if s := a.fault.Load(); s != nil {
		return *s
	}
	return a.settings.Server.Fault
}

func faultsChanged(s faultSettings) FaultsChanged {
	return FaultsChanged{Rules: slices.Sorted(maps.Keys(s.Rules)), Headers: s.Headers}
}

// faultsHealth shows faults on demand as one of the checks, so that nobody forgets
// them: it is down while calls may fail on purpose. ok is false where they are not
// allowed.
func (a *App) faultsHealth() (check CheckHealth, ok bool) {
	if a.faults == nil {
		return CheckHealth{}, false
	}
	current := a.faultsInUse()
	s := faultsChanged(current)
	check = CheckHealth{Name: faultsCheck, Status: HealthOK, CheckedAt: stamp(time.Now())}
	var why, said []string
	for _, u := range a.unservedFaults(current) {
		s.Rules = slices.DeleteFunc(s.Rules, func(name string) bool { return name == u.Rule })
		said = append(said, "the rule "+u.Rule+" hits no call: "+u.Method+" is not served here")
	}
	if len(s.Rules) > 0 {
		why = append(why, "by the rules "+strings.Join(s.Rules, ", "))
	}
	if s.Headers {
		why = append(why, "by the header "+fault.Header)
	}
	if len(why) > 0 {
		said = append([]string{"calls fail on purpose " + strings.Join(why, " and ")}, said...)
	}
	if len(said) > 0 {
		check.Status = HealthDown
		check.Error = strings.Join(said, "; ") + "; see server.fault"
	}
	return check, true
}
