// Package static is a registry of lists that a person or a deployment tool
// writes: for a service whose peers have known addresses, and for development
// without a backend. It is read-only: announcing returns
// [registry.ErrReadOnly]. A service that is not named has an empty list.
//
// The lists of [Open] never change. Those of [OpenFile] follow a file, within a
// second; a file that cannot be read, or is not right in every line, changes
// nothing and is told. What is no longer listed was taken out on purpose, so
// it is gone at once and is not kept in quarantine.
//
// The file is read by the watches themselves, so nothing is read and no
// goroutine lives while nobody watches. A watch that waits for the disk does
// not end before the disk answers.
package static

import (
	"context"
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
	all, err := Instances(services)
	if err != nil {
		return nil, err
	}
	return registry.New(driver{lists: all}, opts...), nil
}

// Instances reads the same strings as [Open], with the same errors, and returns
// the instances by service: for [registry.WithFallback].
func Instances(services map[string][]string) (map[string][]registry.Instance, error) {
	all := make(lists, len(services))
	for _, service := range slices.Sorted(maps.Keys(services)) {
		for _, text := range services[service] {
			inst, err := parse(service, text)
			if err == nil {
				err = all.add(inst)
			}
			if err != nil {
				return nil, fmt.Errorf("read address %q of service %q: %w", text, service, err)
			}
		}
	}
	return all, nil
}

// lists holds the instances by service.
type lists map[string][]registry.Instance

func (l lists) add(inst registry.Instance) error {
	list := l[inst.Service]
	if slices.ContainsFunc(list, func(i registry.Instance) bool { return i.ID == inst.ID }) {
		return fmt.Errorf("instance %q is given twice", inst.ID)
	}
	l[inst.Service] = append(list, inst)
	return nil
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

// driver lists what never changes, and is what the driver of a file is made of.
type driver struct{ lists lists }

func (driver) Kind() string { return "static" }

func (driver) Close() error { return nil }

func (driver) Register(context.Context, registry.Instance, time.Duration) (registry.Registration, error) {
	return nil, registry.ErrReadOnly
}

func (d driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	emit(registry.List{Instances: slices.Clone(d.lists[service]), Revision: 1, Explicit: true})
	<-ctx.Done()
	return ctx.Err()
}
