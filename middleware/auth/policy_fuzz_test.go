package auth

import (
	"errors"
	"strings"
	"testing"
)

// FuzzGlob: a pattern matches what the plainest algorithm says, whatever the bytes, and
// in time that does not explode.
func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{
		{"", ""}, {"*", ""}, {"**", "a"}, {"a*b", "ab"}, {"a*b*c", "axxbxxc"}, {"*a", "aaab"}, {"corp:*@example.org", "corp:ann@example.org"},
		{"GET /items/{id}", "GET /items/{id}"}, {"*a*a*a*a*b", strings.Repeat("a", 40)}, {"\xff*", "\xff\x00"}, {"*", "*"}, {"a", "*"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 1000 || len(s) > 1000 {
			return
		}
		if got, want := Matches(pattern, s), plainly(pattern, s); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, s, got, want)
		}
		if !strings.Contains(pattern, "*") && Matches(pattern, s) != (pattern == s) {
			t.Fatalf("%q stands for more than itself: %q", pattern, s)
		}
	})
}

// plainly is matches by a table: whether what was read of the pattern matches what was
// read of s.
func plainly(pattern, s string) bool {
	row := make([]bool, len(s)+1)
	row[0] = true
	for p := range len(pattern) {
		next := make([]bool, len(s)+1)
		next[0] = row[0] && pattern[p] == '*'
		for i := range len(s) {
			if pattern[p] == '*' {
				next[i+1] = row[i+1] || next[i]
			} else {
				next[i+1] = row[i] && pattern[p] == s[i]
			}
		}
		row = next
	}
	return row[len(s)]
}

// FuzzPolicy: a rule that is not good is refused with what is wrong, and one that is
// lets in nobody whom its text does not name: no anonymous caller, no caller of another
// source, nobody without the scope, nobody by another method.
func FuzzPolicy(f *testing.F) {
	for _, s := range [][5]string{
		{"all", "orders.v1.Orders/*", "corp:*", "orders.v1.Orders/Get", "ann"},
		{"all", "*", "mtls:spiffe://test/*", "GET /items/{id}", "spiffe://test/front"},
		{"open", "*", "anonymous", "a.B/C", "x"},
		{"any", "*", "any", "a.B/C", "x"},
		{"", "", "", "", ""},
		{"a", "*", "*", "a.B/C", "x"},
		{"a", "*", "corp*:x", "a.B/C", "x"},
		{"a", "*", ":*", "a.B/C", "x"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4], "read")
	}
	f.Fuzz(func(t *testing.T, name, pattern, allow, method, subject, scope string) {
		p := Policy{Rules: []Rule{{Name: name, Methods: []string{pattern}, Allow: []string{allow}, Scopes: []string{scope}}}}
		if scope == "" {
			p.Rules[0].Scopes = nil
		}
		compiled, err := p.compile(map[string]bool{KindMTLS: true, "corp": true})
		if err != nil {
			bad, ok := errors.AsType[*RuleError](err)
			if !ok || bad.Rule != name || bad.Field == "" || bad.Constraint == "" {
				t.Fatalf("%+v: %v does not say what is wrong", p, err)
			}
			return
		}
		r := compiled.find(method)
		if (r != nil) != plainly(pattern, method) {
			t.Fatalf("the rule for %q is for %q: %v", pattern, method, r != nil)
		}
		if r == nil {
			return
		}
		if r.anonymous != (allow == Anonymous) || r.any != (allow == Any) {
			t.Fatalf("%q: anonymous %v, any %v", allow, r.anonymous, r.any)
		}
		for _, source := range []string{KindMTLS, "corp"} {
			id := &Identity{Source: source, Subject: subject, name: source + ":" + subject, Scopes: []string{scope}}
			named := allow == Any || strings.HasPrefix(allow, source+":") && plainly(allow, id.name)
			if in := r.judge(id) == nil; in != named {
				t.Fatalf("%q lets in %q: %v, want %v", allow, id.name, in, named)
			}
			id.Scopes = nil
			if scope != "" && r.judge(id) == nil {
				t.Fatalf("%q is let in without the scope %q", id.name, scope)
			}
		}
	})
}
