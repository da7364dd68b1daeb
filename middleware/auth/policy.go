package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// What [Rule].Allow can say beside subjects.
const (
	// Anonymous lets in everybody. A caller that says who he is does so for the
	// handler, and a token that is not good is none.
	Anonymous = "anonymous"
	// Any lets in everybody who says who he is.
	Any = "any"
)

// Policy is the rules of a service, in their order: the first one that is for a
// method decides. What no rule is for is refused.
type Policy struct {
	Rules []Rule
}

// Rule says who may call some methods.
type Rule struct {
	// Name is what callers that are refused, and metrics and logs, are told:
	// letters, digits, "-" and "_"; required, and the rule's own.
	Name string
	// Methods are patterns of what [middleware.Call.FullMethod] tells:
	// "orders.v1.Orders/Get" over gRPC, over HTTP the pattern that the route was
	// registered with, such as "GET /items/{id}". "*" stands for any text.
	// One at least.
	Methods []string
	// Allow is [Anonymous], [Any], or patterns of [Identity.String] with "*" for
	// any text: "mtls:spiffe://example.org/ns/prod/*", "corp:*@example.org",
	// "corp:*". What stands before the colon must be "mtls" or the name of an
	// issuer. One at least; who meets one of them is let in.
	Allow []string
	// Scopes must all be among [Identity].Scopes; none means that none is
	// needed. A certificate has none.
	Scopes []string
}

// RuleError is one thing that is wrong with a rule.
type RuleError struct {
	// Rule is its name, Field the field of [Rule].
	Rule, Field string
	// Constraint says what is wrong with the value and what is wanted.
	Constraint string
}

// Error names the rule, the field and the constraint.
func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %q: %s %s", e.Rule, e.Field, e.Constraint)
}

// Validate checks the rules for tokens of the named issuers. The error joins
// [RuleError]s.
func (p Policy) Validate(issuers []string) error {
	sources := map[string]bool{KindMTLS: true}
	for _, name := range issuers {
		sources[name] = true
	}
	_, err := p.compile(sources)
	return err
}

// policy is a [Policy] that was found to hold.
type policy struct{ rules []rule }

type rule struct {
	name      string
	methods   []string
	anonymous bool
	any       bool
	subjects  []string
	scopes    []string
}

func (p Policy) compile(sources map[string]bool) (*policy, error) {
	var errs []error
	out := &policy{}
	taken := map[string]bool{}
	for _, r := range p.Rules {
		failf := func(field, format string, args ...any) {
			errs = append(errs, &RuleError{Rule: r.Name, Field: field, Constraint: fmt.Sprintf(format, args...)})
		}
		if !validName(r.Name) {
			failf("Name", "must be letters, digits, - and _")
		}
		if taken[r.Name] {
			failf("Name", "is another rule's already")
		}
		taken[r.Name] = true
		if len(r.Methods) == 0 || slices.Contains(r.Methods, "") {
			failf("Methods", "must name the methods that the rule is for, such as orders.v1.Orders/*")
		}
		if len(r.Allow) == 0 {
			failf("Allow", "must say who is let in: anonymous, any, or subjects such as mtls:orders")
		}
		c := rule{name: r.Name, methods: slices.Clone(r.Methods), scopes: slices.Clone(r.Scopes)}
		for _, who := range r.Allow {
			source, _, ok := strings.Cut(who, ":")
			switch {
			case who == Anonymous:
				c.anonymous = true
			case who == Any:
				c.any = true
			case !ok || !sources[source]:
				failf("Allow", "%s begins with none of %s (want anonymous, any, or a subject of one of these, such as mtls:orders)",
					quote(who), strings.Join(prefixes(sources), " "))
			default:
				c.subjects = append(c.subjects, who)
			}
		}
		for _, s := range r.Scopes {
			if s == "" || strings.ContainsFunc(s, notInScope) {
				failf("Scopes", "%s is not a scope", quote(s))
			}
		}
		if c.anonymous && len(r.Allow) > 1 {
			failf("Allow", "names others beside anonymous, which lets in everybody")
		}
		if c.anonymous && len(r.Scopes) > 0 {
			failf("Scopes", "are wanted of callers that need not say who they are")
		}
		out.rules = append(out.rules, c)
	}
	return out, errors.Join(errs...)
}

// prefixes are what may stand before a subject, sorted.
func prefixes(sources map[string]bool) []string {
	var out []string
	for s := range sources {
		out = append(out, s+":")
	}
	slices.Sort(out)
	return out
}

// find is the first rule for a method; nil for none.
func (p *policy) find(method string) *rule {
	for i := range p.rules {
		if matchesAny(p.rules[i].methods, method) {
			return &p.rules[i]
		}
	}
	return nil
}

// judge returns why somebody is not let in, nil if he is.
func (r *rule) judge(id *Identity) *RefusalError {
	if !r.any && !matchesAny(r.subjects, id.name) {
		return refuse(Subject, r.name, "the caller is %s", quote(id.name))
	}
	for _, s := range r.scopes {
		if !slices.Contains(id.Scopes, s) {
			refusal := refuse(Scope, r.name, "%s has the scopes %s", quote(id.name), quote(strings.Join(id.Scopes, " ")))
			refusal.scopes = r.scopes
			return refusal
		}
	}
	return nil
}

// maxName bounds the names of rules and issuers, which are labels of metrics.
const maxName = 64

func validName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// notInScope reports what a scope-token of RFC 6749, section 3.3 does not have.
func notInScope(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// maxSubject bounds names: they go into logs and into the keys of limits.
const maxSubject = 256

func validSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && !strings.ContainsFunc(s, unicode.IsControl)
}
