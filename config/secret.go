package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
)

// Secret is a string that is never shown: it prints, marshals and is reported
// as "***". What holds one in an unexported field must not be printed: package
// fmt then sees nothing but the string.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString hides the secret from %#v as well.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format hides the secret from every other verb, those that do not fit a string
// too, for which package fmt would print the value in its complaint.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		_, _ = io.WriteString(f, s.GoString()) // fmt's own buffer takes everything
		return
	}
	_, _ = io.WriteString(f, s.String())
}

// MarshalText hides the secret in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// shown is a value as it may stand in an error.
func shown(value string, secret bool) string {
	if secret {
		return Secret(value).String()
	}
	return Mask(value)
}

// holdsSecret reports a Secret, and a list or a map of them.
func holdsSecret(t reflect.Type) bool {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t == reflect.TypeFor[Secret]()
}
