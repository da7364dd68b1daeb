package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// MaxValueSize is the size in bytes of the largest encoded instance, 64 KiB.
// Whatever is larger was not written by a service and is not worth the memory
// of every client.
const MaxValueSize = 64 << 10

// wire gives the JSON form of an instance its names and their order.
type wire struct {
	ID        string            `json:"id"`
	Service   string            `json:"service"`
	Version   string            `json:"version,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Endpoints map[string]string `json:"endpoints"`
	Weight    int               `json:"weight"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Started   time.Time         `json:"started,omitzero"`
	State     State             `json:"state"`
}

// MarshalJSON encodes the instance with snake_case names, and with the unknown
// fields it was decoded from. It does not validate: see [Encode].
func (i Instance) MarshalJSON() ([]byte, error) {
	known, err := json.Marshal(wire{i.ID, i.Service, i.Version, i.Zone, i.Endpoints, i.Weight, i.Metadata, i.Started, i.State})
	if err != nil || len(i.extra) == 0 {
		return known, err
	}
	fields := maps.Clone(i.extra)
	if err := json.Unmarshal(known, &fields); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// UnmarshalJSON decodes what MarshalJSON encodes. Names are matched exactly;
// fields with other names are kept as they are. It does not validate: see
// [Decode].
func (i *Instance) UnmarshalJSON(data []byte) error {
	if onlyKnown(data) {
		var w wire
		if json.Unmarshal(data, &w) == nil {
			*i = Instance{w.ID, w.Service, w.Version, w.Zone, w.Endpoints, w.Weight, w.Metadata, w.Started, w.State, nil}
			return nil
		} // else let the long way say which field it is
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	var out Instance
	for _, f := range []struct {
		name  string
		value any
	}{
		{"id", &out.ID},
		{"service", &out.Service},
		{"version", &out.Version},
		{"zone", &out.Zone},
		{"endpoints", &out.Endpoints},
		{"weight", &out.Weight},
		{"metadata", &out.Metadata},
		{"started", &out.Started},
		{"state", &out.State},
	} {
		raw, ok := fields[f.name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, f.value); err != nil {
			return fmt.Errorf("read field %s: %w", f.name, err)
		}
		delete(fields, f.name)
	}
	if len(fields) > 0 {
		out.extra = fields
	}
	*i = out
	return nil
}

// known are the names of the fields of wire.
var known = [...]string{"id", "service", "version", "zone", "endpoints", "weight", "metadata", "started", "state"}

// onlyKnown reports whether a valid JSON object has only fields that wire has,
// spelled as there, each at most once. Then json may decode it directly, which
// is several times as fast; it would take "ID" for "id", and lose the others.
func onlyKnown(object []byte) bool {
	depth, seen, key := 0, 0, false
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
			key = depth == 1
		case '}', ']':
			depth--
		case ',':
			key = depth == 1
		case '"':
			end := i + 1
			for end < len(object) && object[end] != '"' {
				if object[end] == '\\' {
					end++
				}
				end++
			}
			if key {
				n := slices.Index(known[:], string(object[i+1:min(end, len(object))]))
				if n < 0 || seen&(1<<n) != 0 {
					return false
				}
				seen |= 1 << n
				key = false
			}
			i = end
		}
	}
	return true
}

// Encode returns the stored form of an instance: JSON, with the defaults
// filled in. It returns an error for an instance that is not valid or is
// larger than [MaxValueSize].
func Encode(inst Instance) ([]byte, error) {
	if err := inst.Validate(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(inst.withDefaults())
	if err != nil {
		return nil, err
	}
	if len(data) > MaxValueSize {
		return nil, fmt.Errorf("size of the instance %d: must not exceed %d bytes, shorten its metadata", len(data), MaxValueSize)
	}
	return data, nil
}

// Decode reads the stored form of the instance of the given service and ID,
// which the backend knows from the entry's key. It fills in the defaults, and
// service and ID where the value leaves them out. It returns an error for a
// value that is too large, is no JSON object, belongs to another service or
// ID, or is not valid.
func Decode(service, id string, data []byte) (Instance, error) {
	if len(data) > MaxValueSize {
		return Instance{}, fmt.Errorf("size of the value %d: must not exceed %d bytes", len(data), MaxValueSize)
	}
	var inst Instance
	if err := inst.UnmarshalJSON(data); err != nil {
		return Instance{}, fmt.Errorf("decode instance: %w", err)
	}
	for _, f := range []struct {
		name string
		got  *string
		want string
	}{{"service", &inst.Service, service}, {"id", &inst.ID, id}} {
		switch *f.got {
		case f.want, "":
			*f.got = f.want // which all instances of the service share
		default:
			return Instance{}, fmt.Errorf("%s %q: must be %q, as in its key", f.name, *f.got, f.want)
		}
	}
	inst = inst.withDefaults()
	if err := inst.Validate(); err != nil {
		return Instance{}, err
	}
	return inst, nil
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
