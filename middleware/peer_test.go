package middleware

import (
	"net"
	"testing"
)

func TestAddrString(t *testing.T) {
	for _, addr := range []net.Addr{
		&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80},
		&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 65535},
		&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1},
		&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"},
		&net.TCPAddr{Port: 9},
		&net.UnixAddr{Name: "/run/echo", Net: "unix"},
	} {
		if got := addrString(addr); got != addr.String() {
			t.Errorf("%#v is written as %q, want %q", addr, got, addr.String())
		}
	}
	if got := addrString(nil); got != "" {
		t.Errorf("no address is written as %q", got)
	}
	addr := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9000}
	if n := testing.AllocsPerRun(100, func() { _ = addrString(addr) }); n > 1 {
		t.Errorf("writing an address takes %v allocations, want 1", n)
	}
}

// TestPeerNames holds that connections are never taken for one another, though
// they share a place, and that one which goes on calling is remembered.
func TestPeerNames(t *testing.T) {
	var names peerNames
	var addrs []net.Addr
	for i := range 8 {
		addrs = append(addrs, &net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i)), Port: 1 + i%2*len(names)})
	}
	addrs = append(addrs, &net.UnixAddr{Name: "/run/echo", Net: "unix"}, &net.TCPAddr{}, &net.TCPAddr{Port: -1})
	for range 1000 {
		for _, addr := range addrs {
			if got := names.of(addr); got != addr.String() {
				t.Fatalf("%#v is written as %q, want %q", addr, got, addr.String())
			}
		}
	}
	if got := names.of(nil); got != "" {
		t.Errorf("no address is written as %q", got)
	}
	for range 1000 {
		_ = names.of(addrs[0])
	}
	if n := testing.AllocsPerRun(100, func() { _ = names.of(addrs[0]) }); n > 0 {
		t.Errorf("writing an address again takes %v allocations, want none", n)
	}
}
