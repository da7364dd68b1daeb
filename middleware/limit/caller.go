package limit

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"plinth.internal/middleware"
)

// callerOf finds out who calls, and whether that was proved.
func (l *Limiter) callerOf(ctx context.Context, call *middleware.Call) (name string, proved bool) {
	if l.options.checked && middleware.Caller(ctx) == "" {
		return hostOf(call.Peer()), false
	}
	return nameOf(ctx, call)
}

// hostOf is the host of an address; the whole of one that has no port.
func hostOf(peer string) string {
	if host, _, err := net.SplitHostPort(peer); err == nil {
		return host
	}
	return peer
}

// formOfProved reports a name as middleware/auth gives it to callers that prove who
// they are: where that comes from, a colon, and the subject. An address has colons,
// too, and names of services have none.
func formOfProved(name string) bool {
	if !strings.Contains(name, ":") {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err != nil
}
