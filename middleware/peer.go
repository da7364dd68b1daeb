package middleware

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
)

// addrString is addr.String with one allocation instead of four for TCP; "" for
// none.
func addrString(addr net.Addr) string {
	switch addr := addr.(type) {
	case nil:
		return ""
	case *net.TCPAddr:
		if ap := addr.AddrPort(); ap.Addr().IsValid() {
			return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
		}
	}
	return addr.String()
}

// peerNames remembers how the addresses of some hundred connections are written,
// which all their calls ask for. An address is known by its pointer: grpc has one
// for each connection. Ports spread them over the places.
type peerNames [256]atomic.Pointer[peerName]

type peerName struct {
	addr *net.TCPAddr
	name string
}

// of is addrString(addr).
func (p *peerNames) of(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp == nil || tcp.Port < 0 {
		return addrString(addr)
	}
	place := &p[tcp.Port%len(p)]
	known := place.Load()
	if known != nil && known.addr == tcp {
		return known.name
	}
	name := addrString(addr)
	// With more connections than places, most of them must not take turns.
	if known == nil || rand.Uint32N(16) == 0 {
		place.Store(&peerName{tcp, name})
	}
	return name
}
