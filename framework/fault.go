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

// keyFaultRules begins the keys of fault rules.
const keyFaultRules = "server.fault.rules."

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

func (FaultsChanged) event() {}

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

// tellFaults warns of what may happen to calls. It is called once everything is
// registered, and at each change.
func (a *App) tellFaults() {
	if a.faults != nil {
		a.emit(faultsChanged(a.faultsInUse()))
	}
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
	for _, u := range a.unservedRules() {
		rule := strings.TrimSuffix(strings.TrimPrefix(u.Key, keyFaultRules), ".method")
		if !strings.HasPrefix(u.Key, keyFaultRules) || !slices.Contains(s.Rules, rule) {
			continue
		}
		s.Rules = slices.DeleteFunc(s.Rules, func(name string) bool { return name == rule })
		said = append(said, "the rule "+rule+" hits no call: "+u.Method+" is not served here")
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
