// Package static is a registry of fixed lists: for a service whose peers have
// known addresses, and for development without a backend. It is read-only:
// announcing returns [registry.ErrReadOnly]. A list never changes, and a
// service that is not named has an empty one.
package static

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"plinth.internal/registry"
)

// DefaultEndpoint is the protocol of an address that names none.
const DefaultEndpoint = "grpc"

// Open returns a registry that lists, for each service, one instance per
// string. A string is an address, host:port, for the protocol
// [DefaultEndpoint]; or several of them with their protocols, as in
// "grpc=10.0.0.1:9000,http=10.0.0.1:8080". The ID of an instance is made from
// its first address, and stays the same as long as that does. The map is
// copied.
//
// The error names the service and the string that is not valid, and the rule
// it breaks: a bad name or address, an address without a protocol where there
// are several, a protocol or an instance given twice.
func Open(services map[string][]string, opts ...registry.Option) (*registry.Registry, error) {
	lists := make(driver, len(services))
	for _, service := range slices.Sorted(maps.Keys(services)) {
		lists[service] = []registry.Instance{} // named, though maybe empty
		for _, text := range services[service] {
			inst, err := parse(service, text)
			if err == nil && slices.ContainsFunc(lists[service], func(i registry.Instance) bool { return i.ID == inst.ID }) {
				err = errors.New("is given twice")
			}
			if err != nil {
				return nil, fmt.Errorf("read address %q of service %q: %w", text, service, err)
			}
			lists[service] = append(lists[service], inst)
		}
	}
	return registry.New(lists, opts...), nil
}

// parse reads one instance.
func parse(service, text string) (registry.Instance, error) {
	inst := registry.Instance{
		Service:   service,
		Endpoints: make(map[string]string),
		Weight:    registry.DefaultWeight,
		State:     registry.Up,
	}
	parts := strings.Split(text, ",")
	for _, part := range parts {
		name, address, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			if len(parts) > 1 {
				return inst, fmt.Errorf("%q: must name its protocol, such as grpc=%s", part, strings.TrimSpace(part))
			}
			name, address = DefaultEndpoint, name
		}
		if _, ok := inst.Endpoints[name]; ok {
			return inst, fmt.Errorf("protocol %q is given twice", name)
		}
		inst.Endpoints[name] = address
		if inst.ID == "" {
			inst.ID = id(address)
		}
	}
	return inst, inst.Validate()
}

// id makes an ID that a person recognises as the address.
func id(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil {
		address = host + ":" + port // without the brackets of IPv6
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("._-:", r):
			return r
		default:
			return '-'
		}
	}, address)
}

// driver holds the list of each service; it is never changed.
type driver map[string][]registry.Instance

func (d driver) Kind() string { return "static" }

func (d driver) Close() error { return nil }

func (d driver) Register(context.Context, registry.Instance, time.Duration) (registry.Registration, error) {
	return nil, registry.ErrReadOnly
}

func (d driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	emit(registry.List{Instances: slices.Clone(d[service]), Revision: 1})
	<-ctx.Done()
	return ctx.Err()
}
