package registry

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxOverrideSize bounds the stored form of an override, in bytes.
const maxOverrideSize = 1 << 10

// Override is what an operator wants of one instance, whatever the instance
// itself says. The instance watches for it, follows it, and shows it in its
// own entry. The zero value wants nothing.
type Override struct {
	// State is [Draining] to take the instance out of rotation; empty and [Up]
	// leave it to the instance, which may be draining by itself.
	State State `json:"state,omitempty"`
	// Weight replaces the instance's weight; zero leaves that alone.
	Weight int `json:"weight,omitempty"`
}

// Validate returns an error that names each field whose value is not valid;
// nil if there is none.
func (o Override) Validate() error {
	var errs []error
	switch o.State {
	case "", Up, Draining:
	default:
		errs = append(errs, fmt.Errorf("state %q: must be %q or %q", o.State, Up, Draining))
	}
	if o.Weight < 0 {
		errs = append(errs, fmt.Errorf("weight %d: must not be negative", o.Weight))
	}
	return errors.Join(errs...)
}

// Apply returns the instance as the override wants it.
func (o Override) Apply(inst Instance) Instance {
	if o.State == Draining {
		inst.State = Draining
	}
	if o.Weight > 0 {
		inst.Weight = o.Weight
	}
	return inst
}

// EncodeOverride returns the stored form of an override: JSON. It returns an
// error for one that is not valid.
func EncodeOverride(o Override) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(o)
}

// DecodeOverride reads the stored form of an override. Fields it does not know
// are ignored. It returns an error for a value that is too large, is no JSON
// object, or is not valid.
func DecodeOverride(data []byte) (Override, error) {
	if len(data) > maxOverrideSize {
		return Override{}, fmt.Errorf("size of the override %d: must not exceed %d bytes", len(data), maxOverrideSize)
	}
	var o Override
	if err := json.Unmarshal(data, &o); err != nil {
		return Override{}, fmt.Errorf("decode override: %w", err)
	}
	if err := o.Validate(); err != nil {
		return Override{}, err
	}
	return o, nil
}
