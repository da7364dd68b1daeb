package middleware

import (
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzBinaryHeader: what is written into a header is read from it, and what is no
// base64 is nothing.
func FuzzBinaryHeader(f *testing.F) {
	for _, s := range []string{"", "AQID", "AQ==", "AQ", "*", "A", "====", "\xff", "AQID\n"} {
		f.Add("load-bin", s)
		f.Add("plain", s)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		if got := fromHTTP(key, toHTTP(key, value)); got != value {
			t.Fatalf("%s: %q became %q", key, value, got)
		}
		got := fromHTTP(key, value)
		switch {
		case !isBinary(key) && got != value:
			t.Fatalf("%s: %q was read as %q", key, value, got)
		case isBinary(key) && got != "" && len(got) > base64.RawStdEncoding.DecodedLen(len(value)):
			t.Fatalf("%s: %q was read as %d bytes", key, value, len(got))
		}
	})
}

// FuzzSplitMethod: nothing of a path gets lost, whatever it is.
func FuzzSplitMethod(f *testing.F) {
	for _, s := range []string{"/orders.v1.Orders/Get", "", "/", "//", "Get", "/a/b/c", "a/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		service, method := SplitMethod(s)
		if strings.Contains(method, "/") {
			t.Fatalf("%q has the method %q", s, method)
		}
		joined := method
		if strings.Contains(strings.TrimPrefix(s, "/"), "/") {
			joined = service + "/" + method
		}
		if joined != strings.TrimPrefix(s, "/") {
			t.Fatalf("%q was split into %q and %q", s, service, method)
		}
	})
}

// FuzzCriticality: what a caller says is one of the four, or the one in the middle.
func FuzzCriticality(f *testing.F) {
	for _, s := range []string{"", "critical", "critical_plus", "sheddable_plus", "sheddable", "CRITICAL", "critical ", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c := ParseCriticality(s); c.String() != s && c != Critical {
			t.Fatalf("%q is %v", s, c)
		}
	})
}
