package auth_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

func TestPolicyErrors(t *testing.T) {
	good := auth.Rule{Name: "r", Methods: []string{"*"}, Allow: []string{"any"}}
	with := func(change func(*auth.Rule)) auth.Policy {
		r := good
		change(&r)
		return rules(r)
	}
	for _, tc := range []struct {
		name   string
		policy auth.Policy
		want   string // "" = good
	}{
		{"good", rules(good), ""},
		{"none", rules(), ""},
		{"no name", with(func(r *auth.Rule) { r.Name = "" }), "Name must be letters"},
		{"bad name", with(func(r *auth.Rule) { r.Name = "a b" }), "Name must be letters"},
		{"long name", with(func(r *auth.Rule) { r.Name = strings.Repeat("a", 65) }), "Name must be letters"},
		{"same name", rules(good, good), "Name is another rule's already"},
		{"no methods", with(func(r *auth.Rule) { r.Methods = nil }), "Methods must name"},
		{"empty method", with(func(r *auth.Rule) { r.Methods = []string{"a", ""} }), "Methods must name"},
		{"nobody", with(func(r *auth.Rule) { r.Allow = nil }), "Allow must say"},
		{"bare subject", with(func(r *auth.Rule) { r.Allow = []string{"alice"} }), `Allow "alice" begins with none of corp: mtls:`},
		{"unknown source", with(func(r *auth.Rule) { r.Allow = []string{"crop:alice"} }), `Allow "crop:alice" begins with none of corp: mtls:`},
		{"any source", with(func(r *auth.Rule) { r.Allow = []string{"*"} }), `Allow "*" begins with none of`},
		{"subjects", with(func(r *auth.Rule) { r.Allow = []string{"corp:*@example.org", "mtls:spiffe://example.org/*"} }), ""},
		{"anonymous and others", with(func(r *auth.Rule) { r.Allow = []string{"anonymous", "any"} }), "Allow names others"},
		{"anonymous with scopes", with(func(r *auth.Rule) { r.Allow, r.Scopes = []string{"anonymous"}, []string{"read"} }), "Scopes are wanted"},
		{"bad scope", with(func(r *auth.Rule) { r.Scopes = []string{"a b"} }), `Scopes "a b" is not a scope`},
	} {
		err := tc.policy.Validate([]string{"corp"})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: err = %v, want %q", tc.name, err, tc.want)
		}
		if bad, ok := errors.AsType[*auth.RuleError](err); err != nil && (!ok || bad.Field == "" || bad.Constraint == "") {
			t.Errorf("%s: %#v", tc.name, err)
		}
	}
}

// TestPolicy: the first rule for a method decides, and what has none is refused.
func TestPolicy(t *testing.T) {
	s := newSigner(t, "k", "ES256")
	a := build(t, auth.Config{Issuers: []auth.Issuer{corp(keyFile(t, s))}, Policy: rules(
		auth.Rule{Name: "admin", Methods: []string{"orders.v1.Orders/Delete"}, Allow: []string{"corp:root", "corp:admin-*"}, Scopes: []string{"write", "delete"}},
		auth.Rule{Name: "public", Methods: []string{"orders.v1.Orders/List", "GET /ping"}, Allow: []string{"anonymous"}},
		auth.Rule{Name: "services", Methods: []string{"orders.v1.Orders/Sync"}, Allow: []string{"mtls:billing"}},
		auth.Rule{Name: "rest", Methods: []string{"orders.v1.Orders/*"}, Allow: []string{"any"}},
	)})
	alice := s.sign(t, claims(nil))
	root := s.sign(t, claims(map[string]any{"sub": "root"}))
	rootAll := s.sign(t, claims(map[string]any{"sub": "root", "scope": "write delete more"}))
	for _, tc := range []struct {
		name, method, token, who string
		code                     codes.Code
		text                     string
	}{
		{"any", "orders.v1.Orders/Get", alice, "corp:alice", codes.OK, ""},
		{"any without", "orders.v1.Orders/Get", "", "", codes.Unauthenticated, "the call needs a bearer token or a client certificate (rule rest)"},
		{"any with a bad one", "orders.v1.Orders/Get", "x", "", codes.Unauthenticated, "(rule rest)"},
		{"anonymous", "orders.v1.Orders/List", "", "", codes.OK, ""},
		{"anonymous, known", "orders.v1.Orders/List", alice, "corp:alice", codes.OK, ""},
		{"anonymous, bad token", "orders.v1.Orders/List", "x", "", codes.OK, ""},
		{"wrong subject", "orders.v1.Orders/Delete", alice, "", codes.PermissionDenied, "the caller may not call this (rule admin)"},
		{"scope lacks", "orders.v1.Orders/Delete", root, "", codes.PermissionDenied, "the token lacks a scope that is needed (rule admin)"},
		{"scopes", "orders.v1.Orders/Delete", rootAll, "corp:root", codes.OK, ""},
		{"certificate wanted", "orders.v1.Orders/Sync", root, "", codes.PermissionDenied, "the caller may not call this (rule services)"},
		{"no rule", "billing.v1.Billing/Get", rootAll, "", codes.PermissionDenied, "no rule lets anybody call this"},
		{"no rule, nobody", "billing.v1.Billing/Get", "", "", codes.PermissionDenied, "no rule lets anybody call this"},
		{"health", "grpc.health.v1.Health/Check", "", "", codes.OK, ""},
		{"reflection", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", "", codes.PermissionDenied, "no rule"},
		{"not health", "grpc.health.v1.Healthy/Check", "", "", codes.PermissionDenied, "no rule"},
	} {
		who, err := call(t.Context(), a, tc.method, tc.token)
		if got := middleware.Code(err); got != tc.code || who != tc.who || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %q, %v; want %q, %v %q", tc.name, who, err, tc.who, tc.code, tc.text)
		}
	}

	if err := a.SetPolicy(rules(auth.Rule{Name: "bad"})); err == nil {
		t.Error("a policy that does not hold is taken")
	}
	if _, err := call(t.Context(), a, "orders.v1.Orders/Get", alice); err != nil {
		t.Errorf("it has changed something: %v", err)
	}
	if err := a.SetPolicy(rules()); err != nil {
		t.Error(err)
	}
	if _, err := call(t.Context(), a, "orders.v1.Orders/Get", alice); middleware.Code(err) != codes.PermissionDenied {
		t.Errorf("without a rule: %v", err)
	}
}
