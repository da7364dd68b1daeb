package client

import (
	"encoding/gob"
	"io"
	"reflect"
)

// rehearse encodes arguments that hold interfaces on a stream that nobody reads.
// Within the value of an interface gob writes the definitions of types beside the
// value, and if that cannot be encoded both are lost, while gob takes the types for
// defined: no other call on the connection could send them.
func (r *netRPCRequests) rehearse(args any) error {
	t := reflect.TypeOf(args)
	if t == nil {
		return nil // which gob refuses at once
	}
	holds, known := r.interfaces[t]
	if !known {
		holds = holdsInterface(t, map[reflect.Type]bool{})
		if r.interfaces == nil {
			r.interfaces = map[reflect.Type]bool{}
		}
		r.interfaces[t] = holds
	}
	if !holds {
		return nil
	}
	return gob.NewEncoder(io.Discard).Encode(args)
}

// holdsInterface tells whether gob may meet an interface in a value of the type.
func holdsInterface(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Map:
		return holdsInterface(t.Key(), seen) || holdsInterface(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return holdsInterface(t.Elem(), seen)
	case reflect.Struct:
		for field := range t.Fields() {
			if field.IsExported() && holdsInterface(field.Type, seen) {
				return true
			}
		}
	default:
	}
	return false
}
