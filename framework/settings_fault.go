package framework

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/config"
	"plinth.internal/middleware/fault"
)

// faultSettings are the faults on demand. Whether there can be any is decided at
// the start; which ones there are is not.
type faultSettings struct {
	Allow   bool                         `yaml:"allow" doc:"let calls fail on purpose, for tests and game days; rules without it are an error"`
	Headers bool                         `hot:"true"   yaml:"headers" doc:"inject what the request header plinth-fault asks for, such as delay=100ms,percent=50,code=UNAVAILABLE; anybody who can call can then do it"`
	Rules   map[string]faultRuleSettings `hot:"true"   yaml:"rules"`
}

// faultRuleSettings are one fault and the calls that it is for; its name is the key
// that it stands at. Rules are tried in the order of their names, and the first
// one that a call meets counts.
type faultRuleSettings struct {
	Method  string            `empty:"false" yaml:"method" doc:"what is called: orders.v1.Orders/Get, an HTTP route such as GET /items/{id}, or the beginning of either and *; everything but health checks unless set"`
	Percent percentage        `empty:"false" yaml:"percent" doc:"part of the calls that meet the rest, 0 to 100; all unless set"`
	Header  map[string]string `empty:"false" yaml:"header" doc:"value that the call's header or metadata of that name has, * for any"`
	Delay   time.Duration     `yaml:"delay" doc:"how long a call waits before anything else happens to it, up to 5m"`
	Code    string            `yaml:"code" doc:"error that the call gets, such as UNAVAILABLE"`
	Abort   bool              `yaml:"abort" doc:"cut the connection of the call, with all other calls on it"`
	Hang    bool              `yaml:"hang" doc:"keep the call until its deadline, or until the rule is taken back"`
}

// Validate checks what the types cannot.
func (f *faultSettings) Validate() error {
	var v violations
	for _, name := range slices.Sorted(maps.Keys(f.Rules)) {
		r := f.Rules[name]
		rule, err := r.rule(name)
		for _, err := range joined(errors.Join(err, rule.Validate())) {
			v = append(v, config.Invalid("rules."+name+"."+r.keyOf(err), "%s", constraint(err)))
		}
	}
	given := strings.Join(slices.Sorted(maps.Keys(f.Rules)), ", ")
	v.addf(!f.Allow && given != "", "allow", "is not true, but there are rules (%s): set it and start again where calls are to fail on purpose", given)
	v.addf(!f.Allow && f.Headers, "allow", "is not true, but server.fault.headers is: set it and start again where calls are to fail on purpose")
	return errors.Join(v...)
}

// errNoCode is the error of a code that there is not.
var errNoCode = &fault.RuleError{Field: "Code", Constraint: "is no code of an error, want one such as UNAVAILABLE or RESOURCE_EXHAUSTED"}

// rule is the rule that the settings stand for. It errs on a code that there is not,
// with a rule that is right but for that.
func (r *faultRuleSettings) rule(name string) (fault.Rule, error) {
	rule := fault.Rule{Name: name, Method: r.Method, Headers: r.Header, Delay: r.Delay, Abort: r.Abort, Hang: r.Hang}
	if r.Percent.given {
		rule.Percent = new(r.Percent.value)
	}
	if r.Code == "" {
		return rule, nil
	}
	code, ok := fault.CodeNamed(r.Code)
	if !ok {
		rule.Code = codes.Unknown
		return rule, errNoCode
	}
	rule.Code = code
	return rule, nil
}

// keyOf is the key that stands for the field which is wrong.
func (r *faultRuleSettings) keyOf(err error) string {
	bad, ok := errors.AsType[*fault.RuleError](err)
	if !ok {
		return "method"
	}
	switch {
	case bad.Field == "Headers":
		return "header"
	case bad.Field == "Code" && r.Code == "" && r.Abort:
		return "abort"
	case bad.Field == "Code" && r.Code == "" && r.Hang:
		return "hang"
	case bad.Field == "Name":
		return "method"
	}
	return strings.ToLower(bad.Field)
}

func constraint(err error) string {
	if bad, ok := errors.AsType[*fault.RuleError](err); ok {
		return bad.Constraint
	}
	return err.Error()
}

// faultRules are the rules in their order.
func (f *faultSettings) faultRules() []fault.Rule {
	var out []fault.Rule
	for _, name := range slices.Sorted(maps.Keys(f.Rules)) {
		r := f.Rules[name]
		rule, _ := r.rule(name) // validated with the rest
		out = append(out, rule)
	}
	return out
}
