package static

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"plinth.internal/registry"
)

// entry is an instance that is written out, field by field.
type entry struct {
	ID        string            `yaml:"id"`
	Service   string            `yaml:"service"`
	Version   string            `yaml:"version"`
	Zone      string            `yaml:"zone"`
	Endpoints map[string]string `yaml:"endpoints"`
	Weight    int               `yaml:"weight"`
	Metadata  map[string]string `yaml:"metadata"`
	Started   time.Time         `yaml:"started"`
	State     registry.State    `yaml:"state"`
}

// fields are the keys of an entry.
var fields = [...]string{"id", "service", "version", "zone", "endpoints", "weight", "metadata", "started", "state"}

// decode reads a document of service names with their instances. It is all or
// nothing: a document with one bad line is bad. The error names the line.
func decode(data []byte) (lists, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, more yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty: write {} where there are no services")
		}
		return nil, err
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("must be a single document")
	}
	root := resolve(document.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: must be service names with their instances, such as\nbilling:\n  - 10.0.0.1:9000", root.Line)
	}
	all := make(lists)
	seen := make(map[string]bool)
	for i := 0; i < len(root.Content); i += 2 {
		name, list := root.Content[i], resolve(root.Content[i+1])
		service := name.Value
		switch {
		case seen[service]:
			return nil, fmt.Errorf("line %d: service %q is given twice", name.Line, service)
		case list.Kind == yaml.ScalarNode && list.Tag == "!!null": // nothing after the colon
		case list.Kind != yaml.SequenceNode:
			return nil, fmt.Errorf("line %d: service %q: must be a list of instances", list.Line, service)
		}
		seen[service] = true
		for _, item := range list.Content {
			inst, err := decodeInstance(service, resolve(item))
			if err == nil {
				err = all.add(inst)
			}
			if err != nil {
				return nil, fmt.Errorf("line %d: service %q: %w", item.Line, service, err)
			}
		}
	}
	return all, nil
}

// decodeInstance reads one instance: a string as for [Open], or its fields.
func decodeInstance(service string, node *yaml.Node) (registry.Instance, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		inst, err := parse(service, node.Value)
		if err != nil {
			return inst, fmt.Errorf("address %q: %w", node.Value, err)
		}
		return inst, nil
	case yaml.MappingNode:
	default:
		return registry.Instance{}, errors.New("an instance must be an address or a mapping with endpoints")
	}
	// A field that is spelt wrongly would otherwise be left out in silence.
	for i := 0; i < len(node.Content); i += 2 {
		if key := node.Content[i].Value; !slices.Contains(fields[:], key) {
			return registry.Instance{}, fmt.Errorf("field %q: must be one of %s", key, strings.Join(fields[:], ", "))
		}
	}
	var e entry
	if err := node.Decode(&e); err != nil {
		return registry.Instance{}, err
	}
	if e.Service != "" && e.Service != service {
		return registry.Instance{}, fmt.Errorf("service %q: must be left out or be %q", e.Service, service)
	}
	inst := registry.Instance{
		ID: e.ID, Service: service, Version: e.Version, Zone: e.Zone, Endpoints: e.Endpoints,
		Weight: e.Weight, Metadata: e.Metadata, Started: e.Started, State: e.State,
	}
	if inst.ID == "" {
		inst.ID = id(mainEndpoint(inst.Endpoints))
	}
	if inst.Weight == 0 {
		inst.Weight = registry.DefaultWeight
	}
	if inst.State == "" {
		inst.State = registry.Up
	}
	return inst, inst.Validate()
}

// mainEndpoint returns the address that an instance without an ID is known by.
func mainEndpoint(endpoints map[string]string) string {
	if address, ok := endpoints[DefaultEndpoint]; ok {
		return address
	}
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		return endpoints[name]
	}
	return ""
}

// resolve follows an alias to what it stands for.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}
