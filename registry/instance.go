package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"
)

// DefaultWeight is the weight of an instance that does not say otherwise.
const DefaultWeight = 100

// maxNameLength bounds service names, instance IDs and endpoint names: longer
// than any DNS name, short enough for a file name.
const maxNameLength = 253

// State says whether an instance wants new calls.
type State string

const (
	// Up is the state of an instance that wants calls.
	Up State = "up"
	// Draining is the state of an instance that still answers but is about to
	// stop: give it no new calls.
	Draining State = "draining"
)

// Instance is one running copy of a service, as it announces itself. Its JSON
// form, with the field names in snake_case, is what backends store, and is
// read by other programs. JSON fields that this version does not know are
// kept: decoding and encoding again does not lose them.
type Instance struct {
	// ID tells the instance from all others of its service. It is 1 to 253
	// letters, digits, '.', '_', '-' or ':', not beginning with '.'.
	ID string
	// Service is the name that clients ask for: as ID, but without ':'.
	Service string
	// Version is the version of the service's code; may be empty.
	Version string
	// Zone is where the instance runs, for clients that prefer to stay in
	// their own zone; may be empty.
	Zone string
	// Endpoints are the addresses, host:port, where the instance is reached,
	// by protocol: "grpc", "http", "admin". There is at least one.
	Endpoints map[string]string
	// Weight is the share of calls relative to other instances. Zero means
	// [DefaultWeight], and becomes that when the instance is announced or
	// decoded.
	Weight int
	// Metadata is free for the service's use; may be nil.
	Metadata map[string]string
	// Started is when the process started; zero if not known.
	Started time.Time
	// State is [Up] or [Draining]. Empty means Up, and becomes that when the
	// instance is announced or decoded.
	State State

	// extra are the JSON fields this version does not know.
	extra map[string]json.RawMessage
}

// Validate returns an error that names each field whose value cannot be
// announced, with the value and the rule it breaks; nil if there is none. A
// zero Weight and an empty State are valid.
func (i Instance) Validate() error {
	var errs []error
	check := func(field, value string, valid func(string) error) {
		if err := valid(value); err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", field, value, err))
		}
	}
	check("id", i.ID, validName)
	check("service", i.Service, validService)
	if len(i.Endpoints) == 0 {
		errs = append(errs, errors.New("endpoints: must have at least one, such as grpc=10.0.0.1:9000"))
	}
	for _, name := range sortedKeys(i.Endpoints) {
		check("endpoint name", name, validName)
		if err := validAddress(i.Endpoints[name]); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s %q: %w", name, i.Endpoints[name], err))
		}
	}
	if i.Weight < 0 {
		errs = append(errs, fmt.Errorf("weight %d: must not be negative", i.Weight))
	}
	switch i.State {
	case "", Up, Draining:
	default:
		errs = append(errs, fmt.Errorf("state %q: must be %q or %q", i.State, Up, Draining))
	}
	return errors.Join(errs...)
}

// Clone returns a copy that shares no map with i.
func (i Instance) Clone() Instance {
	i.Endpoints = maps.Clone(i.Endpoints)
	i.Metadata = maps.Clone(i.Metadata)
	if i.extra != nil {
		extra := make(map[string]json.RawMessage, len(i.extra))
		for name, value := range i.extra {
			extra[name] = bytes.Clone(value)
		}
		i.extra = extra
	}
	return i
}

// Equal reports whether both instances have the same content, the unknown JSON
// fields included.
func (i Instance) Equal(other Instance) bool {
	return i.ID == other.ID && i.Service == other.Service && i.Version == other.Version && i.Zone == other.Zone &&
		i.Weight == other.Weight && i.State == other.State && i.Started.Equal(other.Started) &&
		maps.Equal(i.Endpoints, other.Endpoints) && maps.Equal(i.Metadata, other.Metadata) &&
		maps.EqualFunc(i.extra, other.extra, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// withDefaults fills the fields whose zero value stands for a default.
func (i Instance) withDefaults() Instance {
	if i.Weight == 0 {
		i.Weight = DefaultWeight
	}
	if i.State == "" {
		i.State = Up
	}
	return i
}

// validService accepts a name that a client can ask for.
func validService(name string) error {
	if strings.Contains(name, ":") {
		return errors.New("must not contain ':', behind which a URL has the port")
	}
	return validName(name)
}

// validName accepts what is safe as one segment of a key, a file name and a
// URL path.
func validName(name string) error {
	switch {
	case name == "":
		return errors.New("must not be empty")
	case len(name) > maxNameLength:
		return fmt.Errorf("must not be longer than %d bytes", maxNameLength)
	case name[0] == '.':
		return errors.New("must not begin with '.'")
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._-:", c) >= 0:
		default:
			return errors.New("must consist of letters, digits, '.', '_', '-' and ':'")
		}
	}
	return nil
}

// validAddress accepts host:port with a host that somebody else can dial.
func validAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("must be host:port")
	}
	if host == "" {
		return errors.New("must name a host")
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '@' }) {
		return errors.New("host must not contain spaces, '/' or '@'")
	}
	// ParseUint takes no sign, so "+80" is refused as well.
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("port must be a number from 1 to 65535")
	}
	return nil
}
