package middleware

import (
	"strings"
	"testing"
)

func FuzzSplitServiceMethod(f *testing.F) {
	for _, s := range []string{"Arith.Add", "a.b.Arith.Add", "Add", ".", "", "Arith.", ".Add"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		service, method := splitServiceMethod(s)
		if strings.Contains(method, ".") {
			t.Errorf("%q has the method %q", s, method)
		}
		if got := service + "." + method; got != s && (service != "" || method != s) {
			t.Errorf("%q is split into %q and %q", s, service, method)
		}
	})
}
