package dns

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"plinth.internal/registry"
)

// parallel bounds how many targets of SRV records are looked up at a time.
const parallel = 8

// lookup is one look at a service: a resolver, and what is seen beside the
// addresses.
type lookup struct {
	ctx      context.Context
	end      context.CancelFunc // closes connections that are still open
	network  string
	timeout  time.Duration
	resolver net.Resolver
	life     life
	skipped  []registry.Skipped
}

func newLookup(ctx context.Context, o options) *lookup {
	ctx, cancel := context.WithCancel(ctx)
	l := &lookup{ctx: ctx, end: cancel, network: o.network, timeout: o.timeout}
	l.resolver = net.Resolver{
		// Only Go's resolver lets us see its answers and ask another server.
		PreferGo: true,
		// Half an answer would look like instances that have gone.
		StrictErrors: true,
		Dial: func(dial context.Context, network, address string) (net.Conn, error) {
			if o.server != "" {
				address = o.server
			}
			var dialer net.Dialer
			conn, err := dialer.DialContext(dial, network, address)
			if err != nil {
				return nil, err
			}
			return l.life.observe(ctx, conn), nil
		},
	}
	return l
}

// ttl returns the shortest time to live of the records seen; negative if there
// were none.
func (l *lookup) ttl() time.Duration { return l.life.shortest() }

// targets returns the addresses that are found under a name: none for one that
// does not exist. Its error is about DNS not giving an answer.
func (l *lookup) targets(n name, host string) ([]target, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	if n.port > 0 {
		addrs, err := l.addrs(ctx, host)
		if notFound(err) {
			return nil, nil
		}
		return join(addrs, n.port, registry.DefaultWeight), err
	}
	_, records, err := l.resolver.LookupSRV(ctx, "", "", host)
	if len(records) > 0 && err != nil {
		// Some of the records are not valid; the resolver has left them out.
		l.skipped = append(l.skipped, registry.Skipped{Key: host, Err: err})
		err = nil
	}
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.resolve(best(records))
}

// addrs returns the addresses of a host, sorted.
func (l *lookup) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := l.resolver.LookupNetIP(ctx, l.network, host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// resolve looks up the targets of SRV records. One that has no address is
// skipped; only if DNS answers for none of them, that is an error.
func (l *lookup) resolve(records []*net.SRV) ([]target, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	answers := make(map[string]*answer)
	for _, r := range records {
		answers[r.Target] = &answer{}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for host, a := range answers {
		slots <- struct{}{}
		wg.Go(func() {
			a.addrs, a.err = l.addrs(ctx, host)
			<-slots
		})
	}
	wg.Wait()

	var (
		targets []target
		failed  []error
	)
	for _, r := range records {
		a := answers[r.Target]
		if a.err != nil {
			key := net.JoinHostPort(r.Target, strconv.Itoa(int(r.Port)))
			l.skipped = append(l.skipped, registry.Skipped{Key: key, Err: a.err})
			failed = append(failed, a.err)
			continue
		}
		targets = append(targets, join(a.addrs, r.Port, int(r.Weight))...)
	}
	if len(records) > 0 && len(failed) == len(records) && !slices.ContainsFunc(failed, notFound) {
		return nil, failed[0]
	}
	return targets, nil
}

// best returns the records of the lowest priority with the weights that the
// instances get. "A client MUST attempt to contact the target host with the
// lowest-numbered priority it can reach", and weight 0 is for when "there
// isn't any server selection to do", or, beside others, for "a very small
// chance of being selected" - RFC 2782.
func best(records []*net.SRV) []*net.SRV {
	// "A Target of "." means that the service is decidedly not available."
	records = slices.DeleteFunc(records, func(r *net.SRV) bool { return strings.Trim(r.Target, ".") == "" })
	if len(records) == 0 {
		return nil
	}
	priority := slices.MinFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	records = slices.DeleteFunc(records, func(r *net.SRV) bool { return r.Priority != priority })
	slices.SortFunc(records, func(a, b *net.SRV) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port), cmp.Compare(b.Weight, a.Weight))
	})
	chosen := slices.ContainsFunc(records, func(r *net.SRV) bool { return r.Weight > 0 })
	for _, r := range records {
		switch {
		case !chosen:
			r.Weight = registry.DefaultWeight
		case r.Weight == 0:
			r.Weight = 1
		}
	}
	return records
}

func join(addrs []netip.Addr, port uint16, weight int) []target {
	targets := make([]target, 0, len(addrs))
	for _, a := range addrs {
		targets = append(targets, target{addr: netip.AddrPortFrom(a, port), weight: weight})
	}
	return targets
}

func portOf(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }

// notFound reports whether DNS has answered that there is nothing.
func notFound(err error) bool {
	dnsErr, ok := errors.AsType[*net.DNSError](err)
	return ok && dnsErr.IsNotFound
}
