package framework

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"plinth.internal/server"
)

// advertised turns the bound addresses into those that others can reach, by the
// host of server.advertise or the one that is detected. In a registry that other
// machines read, a listener on loopback is nobody's but this machine's: for calls
// that is an error unless server.advertise says that something leads there, and the
// admin listener is left out.
func advertised(bound map[string]string, advertise string, endpoints []string) (map[string]string, error) {
	out := map[string]string{}
	elsewhere := len(endpoints) > 0 && !allLoopback(endpoints) && !isLoopback(advertise)
	for name, addr := range bound {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			// A listener that is not TCP, as in tests: its name is its address.
			out[name] = addr
			continue
		}
		local := elsewhere && isLoopback(host)
		if local && name == server.Admin && len(bound) > 1 {
			continue
		}
		if local && advertise == "" && name != server.Admin {
			return nil, &configError{fmt.Errorf("advertise %s: it is on loopback, and whoever finds it in a registry at %s would call itself; "+
				"set server.%s.addr to an address that others reach, or server.advertise, for instance to 127.0.0.1 while everything runs here",
				addr, strings.Join(endpoints, ", "), name)}
		}
		if advertise != "" {
			host = advertise
		} else if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			if host, err = detectHost(endpoints); err != nil {
				return nil, err
			}
		}
		out[name] = net.JoinHostPort(host, port)
	}
	return out, nil
}

// detectHost finds the one address of this machine that others can reach.
func detectHost(endpoints []string) (string, error) {
	if allLoopback(endpoints) {
		// Only processes on this machine can read such a registry, and all of
		// them reach this one over loopback.
		return "127.0.0.1", nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("detect the address to advertise: %w; set server.advertise to this host's address", err)
	}
	var candidates, v4, v6 []string
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().IsGlobalUnicast() {
				continue
			}
			ip := prefix.Addr().String()
			bridge := isBridge(i.Name)
			label := ip + " (" + i.Name
			if bridge {
				label += ", a container bridge"
			}
			candidates = append(candidates, label+")")
			switch {
			case bridge:
			case prefix.Addr().Is4():
				v4 = append(v4, ip)
			default:
				v6 = append(v6, ip)
			}
		}
	}
	return choose(candidates, v4, v6)
}

// choose takes the only IPv4 address, or without any the only IPv6 address.
// Anything else would be a guess.
func choose(candidates, v4, v6 []string) (string, error) {
	switch {
	case len(v4) == 1:
		return v4[0], nil
	case len(v4) == 0 && len(v6) == 1:
		return v6[0], nil
	case len(candidates) == 0:
		return "", errors.New("detect the address to advertise: this machine has none but loopback; set server.advertise, for instance to 127.0.0.1 while everything runs here")
	}
	return "", fmt.Errorf("detect the address to advertise: it is ambiguous, the candidates are %s; set server.advertise to the one that callers reach", strings.Join(candidates, ", "))
}

// isBridge tells interfaces that lead to containers of this machine only, by the
// names that container runtimes give them.
func isBridge(name string) bool {
	for _, prefix := range []string{"docker", "br-", "veth", "cni", "flannel", "cali", "virbr", "lxc", "podman", "cilium"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func allLoopback(endpoints []string) bool {
	for _, e := range endpoints {
		if _, rest, ok := strings.Cut(e, "://"); ok {
			e = rest
		}
		host, _, err := net.SplitHostPort(e)
		if err != nil {
			host = e
		}
		if !isLoopback(host) {
			return false
		}
	}
	return len(endpoints) > 0
}
