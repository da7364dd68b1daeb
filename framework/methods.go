package framework

import (
	"maps"
	"slices"
	"strings"

	"plinth.internal/config"
	"plinth.internal/internal/typo"
	"plinth.internal/middleware/auth"
)

// MethodUnserved says that a rule names a method or a route that the service does not
// have, so that the rule does nothing for it. It is said once the setup is over, and
// for rules that change after that.
type MethodUnserved struct {
	// Key is the rule's in the configuration, such as server.limit.rate.slow.method,
	// and Place where that was given; for a rule of the code it is the option's name.
	Key, Place string
	// Method is what the rule names, Nearest what was probably meant, "" where
	// nothing is like it.
	Method, Nearest string
}

func (MethodUnserved) event() {}

// String is the same in words.
func (e MethodUnserved) String() string {
	text := e.Key + ": " + e.Method + " is no method or route of this service"
	if e.Place != "" {
		text = e.Place + ": " + text
	}
	if e.Nearest != "" {
		text += ", did you mean " + e.Nearest + "?"
	}
	return text
}

// ruleMethod is a method or route that a rule names, with * for any text.
type ruleMethod struct{ key, method string }

// methodsOfRules are those of all rules in effect, in a fixed order.
func (a *App) methodsOfRules(s *serverSettings) []ruleMethod {
	var out []ruleMethod
	for _, name := range slices.Sorted(maps.Keys(s.Limit.Rate)) {
		if method := s.Limit.Rate[name].Method; method != "" {
			out = append(out, ruleMethod{"server.limit.rate." + name + ".method", method})
		}
	}
	if a.faults != nil {
		for _, name := range slices.Sorted(maps.Keys(s.Fault.Rules)) {
			if method := s.Fault.Rules[name].Method; method != "" {
				out = append(out, ruleMethod{keyFaultRules + name + ".method", method})
			}
		}
	}
	if a.auth == nil {
		return out
	}
	for _, r := range s.Auth.policy(s.Auth.code.policy).Rules {
		key := keyAuthPolicy + "." + r.Name + ".methods"
		if _, configured := s.Auth.Policy[r.Name]; !configured {
			key = "framework.WithAuth rule " + r.Name
		}
		for _, method := range r.Methods {
			out = append(out, ruleMethod{key, method})
		}
	}
	return out
}

// checkMethods warns of rules that name what is not served, once for each.
func (a *App) checkMethods(s *serverSettings) {
	served := a.server.Methods()
	places := a.placesOfRules()
	var found []MethodUnserved
	for _, r := range a.methodsOfRules(s) {
		place, ours := places[r.key]
		if nearest, ok := findMethod(r.method, served); !ok && (ours || !strings.HasPrefix(r.key, "server.")) {
			found = append(found, MethodUnserved{Key: r.key, Place: place, Method: r.method, Nearest: nearest})
		}
	}
	before := a.unserved.Swap(&found)
	for _, e := range found {
		known := func(o MethodUnserved) bool { return o.Key == e.Key && o.Method == e.Method }
		if before == nil || !slices.ContainsFunc(*before, known) {
			a.emit(e)
		}
	}
}

// placesOfRules are the places of keys, without those of documents that many services
// share: their rules are for the methods of others, too.
func (a *App) placesOfRules() map[string]string {
	shared := map[string]bool{}
	for _, d := range a.cfg.Status().Documents {
		shared[d.Name] = d.Shared
	}
	out := map[string]string{}
	for _, e := range a.cfg.Entries() {
		ours := e.Source.Kind != config.KindFeed || !shared[e.Source.Name]
		if ours && strings.HasPrefix(e.Key, "server.") {
			out[e.Key] = e.Source.String()
		}
	}
	return out
}

// unservedRules are the rules in effect whose method is not served; none before the
// setup is over.
func (a *App) unservedRules() []MethodUnserved {
	if found := a.unserved.Load(); found != nil {
		return *found
	}
	return nil
}

// warnings are what is in effect but probably not as it was meant.
func (a *App) warnings() []string {
	out := []string{}
	for _, e := range a.unservedRules() {
		out = append(out, e.String())
	}
	return out
}

// findMethod tells whether a pattern, with * for any text, is for any of the methods
// and routes that are served, and if not which one was probably meant, "" for none.
func findMethod(pattern string, served []string) (nearest string, ok bool) {
	if slices.ContainsFunc(served, func(name string) bool { return auth.Matches(pattern, name) }) {
		return "", true
	}
	if !strings.Contains(pattern, "*") {
		return typo.Nearest(pattern, slices.Values(served)), false
	}
	groups := map[string]bool{}
	for _, name := range served {
		if slash := strings.LastIndexByte(name, '/'); slash >= 0 {
			groups[name[:slash+1]+"*"] = true
		}
	}
	return typo.Nearest(pattern, maps.Keys(groups)), false
}
