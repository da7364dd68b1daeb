package framework

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// hostProblem says what is wrong with a host that others are to reach an instance
// at, "" for nothing.
func hostProblem(host string) string {
	const want = "want an IP address or a DNS name without scheme, port and brackets, such as 10.0.0.5"
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil && !isDNSName(host):
		return "is not a host, " + want
	case err != nil:
		return ""
	case ip.Zone() != "":
		return "has a zone, which means something on this machine only; " + want
	case ip.IsUnspecified():
		return "is the address of no machine: whoever calls it calls itself; give the one that others reach"
	case ip.IsMulticast(), ip.Unmap().Is6() && ip.IsLinkLocalUnicast():
		return "is not an address that others can connect to; give another one of this machine"
	}
	return ""
}

// maxDNSName and maxDNSLabel are the limits of RFC 1035, section 2.3.4.
const (
	maxDNSName  = 253
	maxDNSLabel = 63
)

// isDNSName reports a name as a resolver takes it. One that ends in a number would be
// an IPv4 address that is none.
func isDNSName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxDNSName {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxDNSLabel || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return false
		}
		last = label
	}
	_, err := strconv.ParseUint(last, 10, 64)
	return err != nil
}

// notInLabel reports what no name of a machine has; the underscore is against the
// letter of the RFCs and in use.
func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// isLoopback reports a host that leads back to the machine that asks.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// isDialable reports host:port of one machine, with a port that can be connected to.
func isDialable(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil || isDNSName(host)
}

// isEtcdEndpoint reports an address as etcd's client takes it: host:port alone or in
// a URL, or the path of a socket on this machine.
func isEtcdEndpoint(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return isDialable(s)
	}
	switch scheme {
	case "http", "https":
		return isDialable(strings.TrimSuffix(rest, "/"))
	case "unix", "unixs":
		return rest != ""
	}
	return false
}
