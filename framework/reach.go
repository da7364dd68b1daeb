package framework

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"plinth.internal/client/subset"
)

// subsetSettings say when a client keeps to some of a service's instances.
type subsetSettings struct {
	Size  subsetSize  `yaml:"size" doc:"how many instances a client keeps to, at least 10; 20 unless set, 0 for all of them"`
	Above subsetAbove `yaml:"above" doc:"number of instances above which it does, 1 at least; 50 unless set"`
}

// subsetSize is 0 where nothing is set and below zero for all instances.
type subsetSize int

// UnmarshalText takes a number that is not below zero.
func (n *subsetSize) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil {
		return errors.New("want a number of instances, 0 for all of them")
	}
	*n = subsetSize(v)
	if v == 0 {
		*n = -1
	}
	return nil
}

// MarshalText gives nothing where nothing is set.
func (n subsetSize) MarshalText() ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return strconv.AppendInt(nil, int64(max(n, 0)), 10), nil
}

// subsetAbove is 0 where nothing is set.
type subsetAbove int

// UnmarshalText takes a number. 0 would be taken for unset.
func (n *subsetAbove) UnmarshalText(b []byte) error {
	v, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil || v == 0 {
		return errors.New("want a number of instances from 1 on; 1 has a client keep to subset.size instances wherever there are more")
	}
	*n = subsetAbove(v)
	return nil
}

// MarshalText gives nothing where nothing is set.
func (n subsetAbove) MarshalText() ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

// checkReach checks what decides whom a client calls.
func (c *clientSettings) checkReach(v *violations) {
	far := c.ZoneFactor
	v.addf(far != 0 && !(far >= 1 && !math.IsInf(far, 0)), "zone_factor", "is not a factor from 1 on")
	v.addf(c.Subset.Size > 0 && c.Subset.Size < subset.MinSize, "subset.size", "is below %d, and not 0 for all instances", subset.MinSize)
	v.addf(c.Subset.Above < 0, "subset.above", "is below zero")
}

// clientID is who the app's client is where it keeps to some of many instances:
// the same after a restart, which the instance's ID is not, and another one for
// each process, but where several of one service on a host leave their ports to
// the system.
func (a *App) clientID() string {
	host := a.settings.Server.Advertise
	if host == "" {
		host, _ = os.Hostname() // without a name, all such hosts are one
	}
	s := &a.settings.Server
	return clientIDOf(a.name, []string{s.GRPC.Addr, s.HTTP.Addr, s.Admin.Addr}, host)
}

// clientIDOf puts last what counts hosts, where it does: neighbours choose so that
// they spread (see package subset). So the domain comes before the host's own
// name.
func clientIDOf(service string, addrs []string, host string) string {
	var b strings.Builder
	b.WriteString(service)
	for _, addr := range addrs {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			port = "" // there is no such listener
		}
		b.WriteString(":" + port)
	}
	domain := ""
	if _, err := netip.ParseAddr(host); err != nil {
		host, domain, _ = strings.Cut(host, ".")
	}
	return b.String() + "/" + domain + "/" + host
}
