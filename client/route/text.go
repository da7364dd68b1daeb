package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// RuleError is one thing that is wrong with a rule.
type RuleError struct {
	// Rule is the rule's name.
	Rule string
	// Field is the field of the [Rule], and Key the key in it if it is a map.
	Field, Key string
	// Value is what was given, "" where nothing was.
	Value string
	// Constraint is what must be the case, as the end of a sentence.
	Constraint string
}

// Error names the rule, the field, the value and the constraint.
func (v *RuleError) Error() string {
	field := v.Field
	if v.Key != "" {
		field += "[" + strconv.Quote(v.Key) + "]"
	}
	return fmt.Sprintf("set %s of rule %q to %q: %s", field, v.Rule, v.Value, v.Constraint)
}

// Validate checks a rule alone. Every error in what it returns is a [*RuleError].
func (r *Rule) Validate() error {
	var errs []error
	wrong := func(bad bool, field, key, value, constraint string) {
		if bad {
			errs = append(errs, &RuleError{Rule: r.Name, Field: field, Key: key, Value: value, Constraint: constraint})
		}
	}
	wrong(r.Name == "", "Name", "", "", "must not be empty")
	wrong(r.Name == Ordinary, "Name", "", r.Name, "must be another one: that stands for the calls that match no rule")
	for key, value := range r.Headers {
		wrong(!isHeader(key), "Headers", key, value, "must be for a header: a name of letters, digits, and - _ .")
		wrong(value == "", "Headers", key, value, `must not be empty, for an empty header is as none; "*" stands for any value`)
	}
	for key, value := range r.Baggage {
		wrong(key == "", "Baggage", key, value, "must be for a member with a name")
		wrong(value == "", "Baggage", key, value, `must not be empty, for an empty member is as none; "*" stands for any value`)
	}
	if r.Percent != nil {
		wrong(!(*r.Percent >= 0 && *r.Percent <= 100), "Percent", "", number(*r.Percent), "must be from 0 to 100")
	}
	wrong(r.By != "" && !isHeader(r.By), "By", "", r.By, "must be the name of a header: letters, digits, and - _ .")
	wrong(r.By != "" && r.Percent == nil, "By", "", r.By, "must stand beside a percentage: without one all calls match")
	wrong(r.Version == "" && len(r.Metadata) == 0, "Version", "", "", "must not be empty where there is no metadata either: the rule would name all instances")
	wrong(r.Fallback != "" && r.Fallback != FallbackAny && r.Fallback != FallbackFail, "Fallback", "", string(r.Fallback), "must be any or fail")
	slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func validate(rules []Rule) error {
	var errs []error
	seen := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		errs = append(errs, r.Validate())
		if seen[r.Name] {
			errs = append(errs, &RuleError{Rule: r.Name, Field: "Name", Value: r.Name, Constraint: "must be unique"})
		}
		seen[r.Name] = true
	}
	return errors.Join(errs...)
}

// isHeader reports a name that both HTTP and gRPC take for a header.
func isHeader(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

// Calls says in words which calls the rule is for: `5 % of calls with header
// x-canary=1`.
func (r *Rule) Calls() string {
	var b strings.Builder
	if r.Percent == nil {
		b.WriteString("calls")
	} else {
		b.WriteString(number(*r.Percent) + " % of calls")
	}
	what := pairs("header", r.Headers)
	what = append(what, pairs("baggage", r.Baggage)...)
	if len(what) > 0 {
		b.WriteString(" with " + strings.Join(what, " and "))
	}
	if r.By != "" {
		b.WriteString(", by header " + r.By)
	}
	return b.String()
}

// Instances says in words which instances the rule names: `version 1.4.0 and
// metadata track=canary`.
func (r *Rule) Instances() string {
	var what []string
	if r.Version != "" {
		what = append(what, "version "+r.Version)
	}
	return strings.Join(append(what, pairs("metadata", r.Metadata)...), " and ")
}

func pairs(kind string, m map[string]string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, kind+" "+key+"="+m[key])
	}
	return all
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
