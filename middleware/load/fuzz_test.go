package load

import (
	"strconv"
	"testing"
)

// FuzzLimit: a limit is what strconv takes for a number above zero of up to 15
// digits, and everything else is none.
func FuzzLimit(f *testing.F) {
	for _, s := range []string{"", "0", "1", "007", "999999999999999", "1000000000000000", "-1", "+1", "1e3", " 1", "１"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parseLimit(s)
		want, err := strconv.ParseUint(s, 10, 63)
		wantOK := err == nil && want > 0 && len(s) <= 15
		if ok != wantOK || ok && uint64(n) != want {
			t.Fatalf("%q is %d, %v; want %d, %v", s, n, ok, want, wantOK)
		}
		if exceeded(0, s) {
			t.Fatalf("%q hands back a call at no load", s)
		}
	})
}
