package framework

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plinth.internal/config"
	"plinth.internal/middleware/auth"
)

// The modes of server.auth, and the key of its rules.
const (
	authUnsaid = ""
	authOn     = "on"
	authOff    = "off"

	keyAuthPolicy = "server.auth.policy"
)

// authSettings say who may call. Rules and issuers are maps by name, so that a
// layer can change one of them without repeating the others.
type authSettings struct {
	Mode    string                    `yaml:"mode" doc:"on refuses every call that no rule lets in, off checks none; off unless set, on where the service's code declares a policy"`
	Issuers map[string]issuerSettings `yaml:"issuers"`
	Policy  map[string]ruleSettings   `hot:"true"     yaml:"policy"`

	code *authInCode // nil where it is not known
}

// authInCode is what the service's code says about who may call.
type authInCode struct {
	declared bool
	policy   auth.Policy
}

// on tells whether callers are checked.
func (s *authSettings) on() bool {
	return s.Mode == authOn || s.Mode == authUnsaid && s.code != nil && s.code.declared
}

// issuerSettings are an issuer whose bearer tokens (JWT) are taken; its name is the
// key that it stands at.
type issuerSettings struct {
	Issuer       string        `yaml:"issuer" doc:"what the claim iss of its tokens is, to the letter"`
	Audience     []string      `yaml:"audience" doc:"whom tokens may be for; the claim aud must name one of them"`
	Keys         string        `yaml:"keys" doc:"its public keys (JWKS): a file, in use within 1s of a change, or an https: URL; http: only to this machine"`
	InsecureHTTP bool          `yaml:"insecure_http" doc:"take the keys by http: from other machines, too; whoever is on the way can make tokens then"`
	Algorithms   []string      `yaml:"algorithms" doc:"what it may sign with, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA; all of them unless set"`
	Refresh      time.Duration `yaml:"refresh" doc:"how often a URL is read, 10s at least; 5m unless set. A token with an unknown key has it read at once, every 10s at most"`
}

// ruleSettings are a rule for some methods; its name is the key that it stands at.
type ruleSettings struct {
	Order   int      `yaml:"order" doc:"place among the rules: the lowest is tried first, those of the same order by name; 0 unless set"`
	Methods []string `yaml:"methods" doc:"whom the rule is for: orders.v1.Orders/Get over gRPC, over HTTP the route as it is registered, such as GET /items/{id}; * for any text"`
	Allow   []string `yaml:"allow" doc:"who may call: anonymous, any (who says who he is), or mtls:NAME or ISSUER:SUBJECT with * for any text"`
	Scopes  []string `empty:"false" yaml:"scopes" doc:"what the token must grant, all of it; nothing unless set"`
}

// Validate checks what the types cannot. Files of keys are read when the server
// is built.
func (s *authSettings) Validate() error {
	var v violations
	v.addf(!oneOf(s.Mode, authUnsaid, authOn, authOff), "mode", "is none of on, off")
	for _, err := range joined(auth.ValidateIssuers(s.issuers())) {
		bad, ok := errors.AsType[*auth.IssuerError](err)
		if !ok {
			v = append(v, err)
			continue
		}
		v = append(v, invalid("issuers."+bad.Issuer+"."+issuerKeys[bad.Field], bad.Constraint, bad.Secret))
	}
	var code auth.Policy
	if s.on() && s.code != nil {
		code = s.code.policy
		v.addf(len(s.policy(code).Rules) == 0, "mode", "checks callers, but no rule lets anybody call anything: give rules in "+keyAuthPolicy+
			" ("+keyAuthPolicy+".NAME.methods and .allow), or in the code with framework.WithAuth")
	}
	for _, err := range joined(s.policy(code).Validate(slices.Collect(maps.Keys(s.Issuers)))) {
		bad, ok := errors.AsType[*auth.RuleError](err)
		if !ok {
			v = append(v, err)
			continue
		}
		if _, ours := s.Policy[bad.Rule]; !ours {
			v = append(v, fmt.Errorf("a rule of framework.WithAuth: %w", err))
			continue
		}
		v = append(v, invalid("policy."+bad.Rule+"."+ruleKeys[bad.Field], bad.Constraint, false))
	}
	return errors.Join(v...)
}

// invalid is the error of a value, which is shown unless it must not be or the
// constraint begins with the part of it that is wrong.
func invalid(key, constraint string, unshown bool) error {
	if unshown || strings.HasPrefix(constraint, `"`) {
		return config.InvalidUnshown(key, "%s", constraint)
	}
	return config.Invalid(key, "%s", constraint)
}

// ValidateStart holds that rules are not written for nothing. Rules that all services
// share, in a central document, say nothing about this one's mode.
func (s *authSettings) ValidateStart(where func(string) config.Source) error {
	if s.Mode != authUnsaid || s.code == nil || s.on() {
		return nil
	}
	for _, key := range []string{"policy", "issuers"} {
		if at := where(key); at.Kind != config.KindDefault && at.Kind != config.KindFeed {
			return config.Invalid("mode", "is not set, so that nobody would be checked in spite of server.auth.%s (%v): set it to on, or to off to keep that for later", key, at)
		}
	}
	return nil
}

// The keys that stand for fields. A name has no key of its own.
var (
	issuerKeys = map[string]string{
		"Name": "issuer", "Issuer": "issuer", "Audiences": "audience", "Keys": "keys", "Algorithms": "algorithms", "Refresh": "refresh",
	}
	ruleKeys = map[string]string{"Name": "methods", "Methods": "methods", "Allow": "allow", "Scopes": "scopes"}
)

func (s *authSettings) issuers() []auth.Issuer {
	out := make([]auth.Issuer, 0, len(s.Issuers))
	for _, name := range slices.Sorted(maps.Keys(s.Issuers)) {
		i := s.Issuers[name]
		out = append(out, auth.Issuer{
			Name: name, Issuer: i.Issuer, Audiences: i.Audience, Keys: i.Keys,
			InsecureHTTP: i.InsecureHTTP, Algorithms: i.Algorithms, Refresh: i.Refresh,
		})
	}
	return out
}

// policy is the configured rules in their order, and behind them those of the code
// that the configuration has none of the same name for.
func (s *authSettings) policy(code auth.Policy) auth.Policy {
	names := slices.SortedFunc(maps.Keys(s.Policy), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Policy[a].Order, s.Policy[b].Order), strings.Compare(a, b))
	})
	var p auth.Policy
	for _, name := range names {
		r := s.Policy[name]
		p.Rules = append(p.Rules, auth.Rule{Name: name, Methods: r.Methods, Allow: r.Allow, Scopes: r.Scopes})
	}
	for _, r := range code.Rules {
		if _, replaced := s.Policy[r.Name]; !replaced {
			p.Rules = append(p.Rules, r)
		}
	}
	return p
}
