package dns

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"plinth.internal/registry"
)

const (
	// Placeholder stands for the service in the names given to [Open].
	Placeholder = "{service}"
	// DefaultEndpoint is the protocol of a name with a port that says none.
	DefaultEndpoint = "grpc"
)

// name is where the instances of any service are found, for one protocol.
type name struct {
	protocol string
	pattern  string // with Placeholder
	port     uint16 // 0: the name has SRV records, which say the port
}

// of returns the DNS name of a service.
func (n name) of(service string) string { return strings.ReplaceAll(n.pattern, Placeholder, service) }

// parse reads the names of [Open].
func parse(text string) ([]name, error) {
	var names []name
	for part := range strings.SplitSeq(text, ",") {
		n, err := parseName(strings.TrimSpace(part))
		if err == nil && slices.ContainsFunc(names, func(other name) bool { return other.protocol == n.protocol }) {
			err = fmt.Errorf("protocol %q is given twice", n.protocol)
		}
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", strings.TrimSpace(part), err)
		}
		names = append(names, n)
	}
	return names, nil
}

func parseName(text string) (name, error) {
	n := name{protocol: DefaultEndpoint, pattern: text}
	protocol, rest, named := strings.Cut(text, "=")
	if named {
		n.protocol, n.pattern = protocol, rest
	}
	if strings.HasPrefix(n.pattern, "_") && !strings.Contains(n.pattern, ":") {
		if !named {
			label, _, _ := strings.Cut(n.pattern, ".")
			n.protocol = label[1:]
		}
	} else {
		host, port, err := net.SplitHostPort(n.pattern)
		if err != nil {
			return n, errors.New("must be host:port for address records, such as {service}.prod.svc.cluster.local.:9000, " +
				"or, such as _grpc._tcp.{service}.prod.svc.cluster.local., begin with '_' for SRV records")
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return n, errors.New("port must be a number from 1 to 65535")
		}
		n.pattern, n.port = host, uint16(number)
	}
	if !strings.Contains(n.pattern, Placeholder) {
		return n, fmt.Errorf("must contain %s, where the name of the service goes", Placeholder)
	}
	// The registry knows what the name of a protocol may be.
	sample := registry.Instance{ID: "i", Service: "s", Endpoints: map[string]string{n.protocol: "h:1"}}
	return n, sample.Validate()
}
