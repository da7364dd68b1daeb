package consul

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/consul/api"

	"plinth.internal/registry"
)

const (
	// DefaultEndpoint is the protocol of a service that another program
	// registered, and of the endpoint whose address such programs are shown.
	DefaultEndpoint = "grpc"

	// Keys in Meta. The instance is in pieces: plinth-0, plinth-1 and so on.
	metaPiece = "plinth-"
	metaOwner = "plinth-owner"

	// Consul takes at most 64 pairs with values of at most 512 bytes. Four
	// pairs are for the owner and for people.
	maxPieces = 60
	maxPiece  = 512

	// reapAfter is when Consul deletes an entry whose check is critical, and
	// the least that it allows.
	reapAfter = time.Minute
)

// serviceID returns the ID in Consul, where it must be unique for an agent and
// not only for a service. No name contains the separator.
func serviceID(service, id string) string { return service + "~" + id }

// registrationOf returns what the agent is told about the instance.
func registrationOf(inst registry.Instance, owner string, ttl time.Duration) (*api.AgentServiceRegistration, error) {
	value, err := registry.Encode(inst)
	if err != nil {
		return nil, err
	}
	meta, err := split(value)
	if err != nil {
		return nil, err
	}
	meta[metaOwner] = owner
	for name, text := range map[string]string{"version": inst.Version, "zone": inst.Zone, "state": string(inst.State)} {
		if text != "" && len(text) <= maxPiece {
			meta[name] = text
		}
	}
	host, port, err := mainAddress(inst.Endpoints)
	if err != nil {
		return nil, err
	}
	id := serviceID(inst.Service, inst.ID)
	return &api.AgentServiceRegistration{
		ID:      id,
		Name:    inst.Service,
		Address: host,
		Port:    port,
		Meta:    meta,
		Weights: &api.AgentWeights{Passing: min(inst.Weight, 65535), Warning: 1},
		Check: &api.AgentServiceCheck{
			CheckID:                        checkID(id),
			TTL:                            ttl.String(),
			Status:                         api.HealthPassing,
			DeregisterCriticalServiceAfter: max(reapAfter, ttl).String(),
		},
	}, nil
}

// checkID returns the ID that Consul itself gives to the only check of a service.
func checkID(serviceID string) string { return "service:" + serviceID }

// mainAddress returns the address that a program sees that knows only one.
func mainAddress(endpoints map[string]string) (string, int, error) {
	address, ok := endpoints[DefaultEndpoint]
	if !ok {
		for _, name := range slices.Sorted(maps.Keys(endpoints)) {
			address = endpoints[name]
			break
		}
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(text)
	return host, port, err
}

// split cuts a value into pieces that Meta can hold.
func split(value []byte) (map[string]string, error) {
	meta := make(map[string]string)
	text := string(value)
	for n := 0; text != ""; n++ {
		if n == maxPieces {
			return nil, fmt.Errorf("size of the instance %d: must not exceed %d bytes in consul, shorten its metadata", len(value), maxPieces*maxPiece)
		}
		end := min(len(text), maxPiece)
		for end < len(text) && end > 0 && !utf8.RuneStart(text[end]) {
			end-- // each piece is text by itself
		}
		if end == 0 {
			return nil, errors.New("the instance is no text")
		}
		meta[metaPiece+strconv.Itoa(n)] = text[:end]
		text = text[end:]
	}
	return meta, nil
}

// joined returns the value that split has cut; false if there is none.
func joined(meta map[string]string) ([]byte, bool) {
	var value []byte
	for n := 0; ; n++ {
		piece, ok := meta[metaPiece+strconv.Itoa(n)]
		if !ok {
			return value, n > 0
		}
		value = append(value, piece...)
	}
}

// listOf makes instances of the entries of a service.
func listOf(service string, entries []*api.ServiceEntry, index uint64) registry.List {
	list := registry.List{Revision: int64(index)}
	// An instance may be left over on an agent that it does not use any more:
	// the entry that passes and was changed last counts.
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b *api.ServiceEntry) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Service.ModifyIndex, a.Service.ModifyIndex))
	})
	seen := make(map[string]bool)
	for _, e := range entries {
		id := strings.TrimPrefix(e.Service.ID, service+"~")
		if seen[id] {
			continue
		}
		seen[id] = true
		inst, err := instanceOf(service, id, e)
		status := e.Checks.AggregatedStatus()
		switch {
		case err != nil:
			list.Skipped = append(list.Skipped, registry.Skipped{Key: service + "/" + id, Err: err})
			continue
		case status == api.HealthCritical && inst.State == registry.Draining:
			list.Withdrawn = append(list.Withdrawn, id)
			continue
		case status == api.HealthCritical:
			continue
		case status == api.HealthMaint:
			inst.State = registry.Draining
		}
		list.Instances = append(list.Instances, inst)
	}
	return list
}

func rank(e *api.ServiceEntry) int {
	if e.Checks.AggregatedStatus() == api.HealthCritical {
		return 1
	}
	return 0
}

// instanceOf reads an entry: one of ours, or of a program that knows nothing
// of us.
func instanceOf(service, id string, e *api.ServiceEntry) (registry.Instance, error) {
	if value, ok := joined(e.Service.Meta); ok {
		return registry.Decode(service, id, value)
	}
	host := e.Service.Address
	if host == "" && e.Node != nil {
		host = e.Node.Address // "If empty, the agent's address is used"
	}
	inst := registry.Instance{
		ID:        id,
		Service:   service,
		Version:   e.Service.Meta["version"],
		Zone:      e.Service.Meta["zone"],
		Endpoints: map[string]string{DefaultEndpoint: net.JoinHostPort(host, strconv.Itoa(e.Service.Port))},
		Weight:    e.Service.Weights.Passing,
		Metadata:  e.Service.Meta,
		State:     registry.Up,
	}
	if inst.Weight == 0 {
		inst.Weight = registry.DefaultWeight
	}
	return inst, inst.Validate()
}
