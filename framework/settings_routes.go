package framework

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"plinth.internal/client/route"
	"plinth.internal/config"
)

// routeSettings are one routing rule of a service; its name is the key that it
// stands at.
type routeSettings struct {
	Order    int           `yaml:"order" doc:"place among the rules: the lowest is tried first, those of the same order by name; 0 unless set"`
	Match    matchSettings `empty:"false" yaml:"match"`
	To       toSettings    `yaml:"to"`
	Fallback string        `yaml:"fallback" doc:"while none of the instances can be called: any (the default) for another one, fail for UNAVAILABLE at once"`
}

// matchSettings say which calls a rule is for: those that meet all of them. A
// condition with nothing behind it is an error: it would send more calls to the
// rule's instances than was meant, most often all.
type matchSettings struct {
	Header  map[string]string `empty:"false" yaml:"header" doc:"value that the call's header or metadata of that name has, * for any"`
	Baggage map[string]string `empty:"false" yaml:"baggage" doc:"value that the member of that name in the call's W3C baggage has, * for any; it travels on to all services behind"`
	Percent percentage        `empty:"false" yaml:"percent" doc:"part of the calls that meet the rest, 0 to 100; all unless set"`
	By      string            `empty:"false" yaml:"by" doc:"header whose value decides which calls belong to the percentage, alike for the same value; chance unless set, and for calls without the header"`
}

// toSettings say which instances a rule's calls go to: those that have all of it.
// They are reserved for the rule.
type toSettings struct {
	Version  string            `empty:"false" yaml:"version" doc:"version of the instances; this or metadata must be set"`
	Metadata map[string]string `empty:"false" yaml:"metadata" doc:"value that the instances' metadata of that name has"`
}

// percentage is a number from 0 to 100 that may be left unset.
type percentage struct {
	value float64
	given bool
}

// UnmarshalText takes a number.
func (p *percentage) UnmarshalText(b []byte) error {
	x, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(x >= 0 && x <= 100) { // so written, it finds a NaN
		return errors.New("want a number from 0 to 100")
	}
	*p = percentage{x, true}
	return nil
}

// MarshalText gives nothing where nothing is set.
func (p percentage) MarshalText() ([]byte, error) {
	if !p.given {
		return nil, nil
	}
	return strconv.AppendFloat(nil, p.value, 'g', -1, 64), nil
}

func (r *routeSettings) rule(name string) route.Rule {
	rule := route.Rule{
		Name: name, Headers: r.Match.Header, Baggage: r.Match.Baggage, By: r.Match.By,
		Version: r.To.Version, Metadata: r.To.Metadata, Fallback: route.Fallback(r.Fallback),
	}
	if r.Match.Percent.given {
		rule.Percent = new(r.Match.Percent.value)
	}
	return rule
}

// checkRoutes says what is wrong with rules, by the keys.
func checkRoutes(v *violations, routes map[string]routeSettings) {
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		r := routes[name]
		rule := r.rule(name)
		for _, err := range joined(rule.Validate()) {
			bad, ok := errors.AsType[*route.RuleError](err)
			if !ok {
				*v = append(*v, err)
				continue
			}
			key, problem := r.keyOf(bad), bad.Constraint
			if bad.Field == "Name" {
				problem = fmt.Sprintf("the name %q %s", bad.Value, problem)
			}
			*v = append(*v, config.Invalid("routes."+name+"."+key, "%s", problem))
		}
	}
}

// keyOf is the key that stands for a field. What is not given has no place in a
// file, so that a name's place is that of a key below it.
func (r *routeSettings) keyOf(v *route.RuleError) string {
	switch v.Field {
	case "Headers":
		return "match.header." + v.Key
	case "Baggage":
		return "match.baggage." + v.Key
	case "Percent":
		return "match.percent"
	case "By":
		return "match.by"
	case "Fallback":
		return "fallback"
	case "Name":
		for _, key := range slices.Sorted(maps.Keys(r.To.Metadata)) {
			if r.To.Version == "" {
				return "to.metadata." + key
			}
		}
	}
	return "to.version"
}

func joined(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return nil
}

// newRoutes makes the rules of a service: those for all services, replaced by its
// own where they have the same name. nil stands for no rules.
func newRoutes(all, own map[string]routeSettings) (*route.Table, error) {
	merged := maps.Clone(all)
	if merged == nil {
		merged = map[string]routeSettings{}
	}
	maps.Copy(merged, own)
	if len(merged) == 0 {
		return nil, nil
	}
	names := slices.SortedFunc(maps.Keys(merged), func(a, b string) int {
		return cmp.Or(cmp.Compare(merged[a].Order, merged[b].Order), strings.Compare(a, b))
	})
	rules := make([]route.Rule, 0, len(names))
	for _, name := range names {
		r := merged[name]
		rules = append(rules, r.rule(name))
	}
	return route.New(rules...)
}
