package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Bind lays the layers over defaults and returns the result. The path is the
// key under which the struct's keys are found; "" is the root. T is a struct
// whose fields have yaml tags; fields may be strings, booleans, numbers,
// time.Duration, types that unmarshal from text, lists and maps of these,
// structs, and maps of structs. A field without a tag is not a key.
//
// A map's keys are those of the defaults, the file and the command line. The
// environment can add one, in lower case and with dashes, except to a map inside
// a map: PLINTH_CLIENTS_PRICE_LIST_TIMEOUT is clients.price-list.timeout.
//
// Keys below the path that T does not have are errors, except at the root:
// there other parts may bind them, and [Config.Unused] reports what is left.
func Bind[T any](c *Config, path string, defaults T) (T, error) {
	b := &binder{c: c, entries: map[string]Entry{}, used: map[*item]bool{}}
	out := defaults
	v := reflect.ValueOf(&out).Elem()
	if v.Kind() != reflect.Struct {
		return defaults, fmt.Errorf("bind configuration %q: %T is not a struct", path, defaults)
	}
	b.structure(v, path)
	b.unknown(v, path)
	b.validate(v, path)
	if err := errors.Join(b.errs...); err != nil {
		return defaults, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.entries, b.entries)
	for it := range b.used {
		it.used = true
	}
	return out, nil
}

// binder lays the layers over one struct. Only what it collects is written to
// the Config, when all went well.
type binder struct {
	c       *Config
	entries map[string]Entry
	used    map[*item]bool
	errs    []error
	inMap   bool // below a map
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (b *binder) structure(v reflect.Value, path string) {
	b.section(path, false)
	for _, f := range fields(v.Type()) {
		b.value(v.FieldByIndex(f.Index), join(path, f.key))
	}
}

// given are the items of a key, lowest precedence first, nil where a layer has
// none.
func (b *binder) given(key string) [3]*item {
	return [3]*item{b.c.file[key], b.c.env[EnvName(key)], b.c.flag[key]}
}

// section reports a value that was given where keys are wanted.
func (b *binder) section(path string, secret bool) {
	for _, it := range b.given(path) {
		if it == nil {
			continue
		}
		b.used[it] = true
		if !it.isNull {
			b.errs = append(b.errs, &Error{Source: it.source, Key: path, Value: shown(it.value, secret), Problem: "is a plain value, want keys below " + path})
		}
	}
}

// field is a field of a struct that is a key.
type field struct {
	reflect.StructField

	key string
}

// fields are the keys of a struct, those of structs tagged ",inline" among them
// as if they were its own.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, flags, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if flags == "inline" && f.Type.Kind() == reflect.Struct && (f.Anonymous || f.IsExported()) {
			for _, inner := range fields(f.Type) {
				inner.Index = append([]int{i}, inner.Index...)
				out = append(out, inner)
			}
			continue
		}
		if f.IsExported() && key != "" && key != "-" {
			out = append(out, field{f, key})
		}
	}
	return out
}

func (b *binder) value(v reflect.Value, key string) {
	switch {
	case isText(v):
		b.leaf(v, key)
	case v.Kind() == reflect.Struct:
		b.structure(v, key)
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		b.mapping(v, key)
	default:
		b.leaf(v, key)
	}
}

// leaf sets one plain value from the highest layer that has it.
func (b *binder) leaf(v reflect.Value, key string) {
	source := Source{Kind: KindDefault}
	for _, it := range b.given(key) {
		if it == nil {
			continue
		}
		b.used[it] = true
		if it.isNull {
			continue
		}
		if err := set(v, it); err != nil {
			b.errs = append(b.errs, &Error{Source: it.source, Key: key, Value: shown(it.value, holdsSecret(v.Type())), Problem: err.Error()})
			continue
		}
		source = it.source
	}
	b.entries[key] = Entry{Key: key, Value: text(v), Source: source}
}

// unknown reports keys of the file and the command line that the bound struct
// should have but has not: all below the path, or at the root those below the
// struct's own sections.
func (b *binder) unknown(v reflect.Value, path string) {
	sections := []string{path}
	if path == "" {
		sections = nil
		for _, f := range fields(v.Type()) {
			sections = append(sections, f.key)
		}
	}
	var errs []error
	for _, layer := range []map[string]*item{b.c.file, b.c.flag} {
		for key, it := range layer {
			below := func(section string) bool { return strings.HasPrefix(key, section+".") }
			if !b.used[it] && slices.ContainsFunc(sections, below) {
				errs = append(errs, unknownKey(it.source, key, b.entries))
			}
		}
	}
	b.errs = append(b.errs, sorted(errs)...)
}
