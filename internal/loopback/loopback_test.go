package loopback_test

import (
	"net"
	"testing"

	"plinth.internal/internal/loopback"
)

func TestNext(t *testing.T) {
	var a loopback.Addresses
	seen := map[string]bool{}
	for range 50 {
		addr, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Errorf("%s was given out twice", addr)
		}
		seen[addr] = true
		host, _, err := net.SplitHostPort(addr)
		if err != nil || !net.ParseIP(host).IsLoopback() {
			t.Errorf("%s is not on loopback: %v", addr, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("nobody can listen on %s: %v", addr, err)
			continue
		}
		defer l.Close()
	}
}
