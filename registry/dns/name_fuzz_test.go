package dns

import (
	"strings"
	"testing"
)

// FuzzNames: names are read or refused; each has a protocol of its own and, unless
// it has SRV records, a port.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "{service}.prod:9000", "grpc=a:1,http=b:2", "_grpc._tcp.{service}", "a:1,b:2", "http=_x._tcp.a", "[::1]:1", "a:0", "a:99999", "=a:1", "_", "_.", "a=b=c:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		names, err := parse(s)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, n := range names {
			if n.protocol == "" || seen[n.protocol] {
				t.Fatalf("%q has the protocol %q twice, or none", s, n.protocol)
			}
			seen[n.protocol] = true
			if n.port == 0 && !strings.HasPrefix(n.pattern, "_") {
				t.Fatalf("%q has a name without a port: %+v", s, n)
			}
			_ = n.of("orders")
		}
	})
}
