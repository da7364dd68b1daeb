package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"plinth.internal/registry"
)

const (
	// NodeKey is the metadata key of the name of the node that an instance
	// runs on.
	NodeKey = "node"
	// DefaultEndpoint is the protocol of a port that says nothing about it.
	DefaultEndpoint = "grpc"
)

// convert makes the list of a service's instances from its slices.
func convert(service string, all []*discoveryv1.EndpointSlice) registry.List {
	// The order decides which of several entries of one endpoint counts, and
	// must not depend on the order of events.
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(cmp.Compare(a.AddressType, b.AddressType), cmp.Compare(a.Name, b.Name))
	})
	var (
		list  registry.List
		index = make(map[string]int) // of an ID in list.Instances
		out   = make(map[string]bool)
	)
	for _, slice := range all {
		endpoints := ports(slice.Ports)
		for i := range slice.Endpoints {
			endpoint := &slice.Endpoints[i]
			inst, err := instance(service, endpoint, endpoints)
			at, seen := index[inst.ID]
			switch {
			case err != nil:
				key := slice.Namespace + "/" + slice.Name + "/" + cmp.Or(inst.ID, strconv.Itoa(i))
				list.Skipped = append(list.Skipped, registry.Skipped{Key: key, Err: err})
			case !serving(endpoint.Conditions):
				out[inst.ID] = true
			case !seen:
				index[inst.ID] = len(list.Instances)
				list.Instances = append(list.Instances, inst)
			case list.Instances[at].State == registry.Draining && inst.State == registry.Up && sameHost(list.Instances[at], inst):
				// While an endpoint moves from one slice to another, it is in
				// both: one may be older.
				list.Instances[at] = inst
			}
		}
	}
	for id := range out {
		if _, listed := index[id]; !listed {
			list.Withdrawn = append(list.Withdrawn, id)
		}
	}
	slices.Sort(list.Withdrawn)
	return list
}

// instance makes an instance from an endpoint. Its ID is set even if there is
// an error, where the endpoint has one.
func instance(service string, endpoint *discoveryv1.Endpoint, ports map[string]int32) (registry.Instance, error) {
	inst := registry.Instance{
		Service:   service,
		Zone:      value(endpoint.Zone),
		Endpoints: make(map[string]string, len(ports)),
		Weight:    registry.DefaultWeight,
		State:     registry.Up,
	}
	if ref := endpoint.TargetRef; ref != nil && ref.Kind == "Pod" {
		inst.ID = ref.Name
	}
	if len(endpoint.Addresses) == 0 {
		return inst, errors.New("endpoint has no address")
	}
	// "No semantics are defined for additional addresses beyond the first"
	// - EndpointSlice API.
	address := endpoint.Addresses[0]
	inst.ID = cmp.Or(inst.ID, address)
	if len(ports) == 0 {
		return inst, errors.New("endpoint has no TCP port with a number")
	}
	for name, port := range ports {
		inst.Endpoints[name] = net.JoinHostPort(address, strconv.Itoa(int(port)))
	}
	if node := value(endpoint.NodeName); node != "" {
		inst.Metadata = map[string]string{NodeKey: node}
	}
	if value(endpoint.Conditions.Terminating) {
		inst.State = registry.Draining
	}
	if err := inst.Validate(); err != nil {
		return inst, fmt.Errorf("read endpoint: %w", err)
	}
	return inst, nil
}

// serving reports whether the endpoint answers. "A nil value should be
// interpreted as true" - EndpointSlice API; where the API server is too old to
// know about serving, ready says the same.
func serving(c discoveryv1.EndpointConditions) bool {
	for _, condition := range []*bool{c.Serving, c.Ready} {
		if condition != nil {
			return *condition
		}
	}
	return true
}

// ports returns the ports that can be dialled, by endpoint name.
func ports(list []discoveryv1.EndpointPort) map[string]int32 {
	var usable []discoveryv1.EndpointPort
	for _, p := range list {
		if p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) {
			usable = append(usable, p)
		}
	}
	named := make(map[string]int32, len(usable))
	for _, p := range usable {
		if name := value(p.Name); name != "" {
			named[name] = *p.Port
		}
	}
	for _, p := range usable {
		protocol := strings.ToLower(value(p.AppProtocol))
		switch {
		case protocol == "grpc" || protocol == "http":
		case protocol == "" && value(p.Name) == "" && len(usable) == 1:
			protocol = DefaultEndpoint
		default:
			continue
		}
		if _, ok := named[protocol]; !ok {
			named[protocol] = *p.Port
		}
	}
	return named
}

// sameHost reports whether two instances have the same addresses.
func sameHost(a, b registry.Instance) bool {
	for name, address := range a.Endpoints {
		if b.Endpoints[name] != address {
			return false
		}
	}
	return true
}

// value returns what p points at, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
