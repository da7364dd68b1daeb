package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Secret is a string that is never shown: it prints, marshals and is reported
// as "***".
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

// MarshalText hides the secret in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Validator is implemented by structs whose values have constraints of their
// own. Errors made by [Invalid] get the place of the value added.
type Validator interface {
	Validate() error
}

// Invalid says that the value of a key is not usable. The key is relative to
// the struct that is validated.
func Invalid(key, format string, args ...any) error {
	return &invalid{key: key, problem: fmt.Sprintf(format, args...)}
}

type invalid struct{ key, problem string }

func (e *invalid) Error() string { return e.key + ": " + e.problem }

// Bind lays the layers over defaults and returns the result. The path is the
// key under which the struct's keys are found; "" is the root. T is a struct
// whose fields have yaml tags; fields may be strings, booleans, numbers,
// time.Duration, types that unmarshal from text, lists and maps of these,
// structs, and maps of structs. A field without a tag is not a key.
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
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// EnvName is the environment variable for a key.
func EnvName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

func (b *binder) structure(v reflect.Value, path string) {
	b.section(path)
	for _, f := range fields(v.Type()) {
		b.value(v.FieldByIndex(f.Index), join(path, f.key))
	}
}

// section reports a value that was given where keys are wanted.
func (b *binder) section(path string) {
	for _, it := range []*item{b.c.file[path], b.c.env[EnvName(path)], b.c.flag[path]} {
		if it == nil {
			continue
		}
		b.used[it] = true
		if !it.isNull() {
			b.errs = append(b.errs, &Error{Source: it.source, Key: path, Value: it.value, Problem: "is a plain value, want keys below " + path})
		}
	}
}

// field is a field of a struct that is a key.
type field struct {
	reflect.StructField
	key string
}

// fields are the keys of a struct, those of embedded structs tagged ",inline"
// among them as if they were its own.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, flags, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Anonymous && flags == "inline" {
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
	case v.Kind() == reflect.Map:
		b.mapping(v, key)
	default:
		b.leaf(v, key)
	}
}

// mapping fills a map from strings. Its keys are those of the defaults, those
// in the file and on the command line, and those that the environment adds: a
// variable can name a new key where the map's values are plain.
func (b *binder) mapping(v reflect.Value, key string) {
	b.section(key)
	names := map[string]bool{}
	for _, k := range v.MapKeys() {
		names[k.String()] = true
	}
	prefix := key + "."
	for _, layer := range []map[string]*item{b.c.file, b.c.flag} {
		for k := range layer {
			if rest, ok := strings.CutPrefix(k, prefix); ok {
				names[b.mapKey(v.Type().Elem(), rest)] = true
			}
		}
	}
	for name := range b.envKeys(v.Type().Elem(), key) {
		names[name] = true
	}
	// A default map must not be written to: it may be shared.
	next := reflect.MakeMapWithSize(v.Type(), len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(name).Convert(v.Type().Key())); old.IsValid() {
			e.Set(old)
		}
		b.value(e, join(key, name))
		next.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), e)
	}
	if len(names) > 0 || !v.IsNil() {
		v.Set(next)
	}
}

// mapKey cuts the map's own key off the rest of a path. The keys of a map of
// plain values may have dots in them.
func (b *binder) mapKey(elem reflect.Type, rest string) string {
	if elem.Kind() == reflect.Struct && !isText(reflect.New(elem).Elem()) {
		name, _, _ := strings.Cut(rest, ".")
		return name
	}
	return rest
}

// envKeys are the map keys that variables name. For a map of structs the name
// is what is left between the map's own part and that of one of the struct's
// leaves: PLINTH_CLIENTS_PRICE_LIST_TIMEOUT is clients.price-list.timeout.
func (b *binder) envKeys(elem reflect.Type, key string) map[string]bool {
	names := map[string]bool{}
	prefix := EnvName(key) + "_"
	suffixes := []string{""}
	if elem.Kind() == reflect.Struct && !isText(reflect.New(elem).Elem()) {
		suffixes = nil
		for _, leaf := range leaves(elem, "") {
			suffixes = append(suffixes, strings.TrimPrefix(EnvName(leaf), strings.TrimSuffix(EnvPrefix, "_")))
		}
	}
	for env := range b.c.env {
		rest, ok := strings.CutPrefix(env, prefix)
		if !ok {
			continue
		}
		for _, s := range suffixes {
			if name, ok := strings.CutSuffix(rest, s); ok && name != "" {
				names[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] = true
				break
			}
		}
	}
	return names
}

// leaves are the key paths of a struct's plain fields, longest first, so that a
// longer name wins over its own tail.
func leaves(t reflect.Type, path string) []string {
	var out []string
	for _, f := range fields(t) {
		switch {
		case f.Type.Kind() == reflect.Struct && !isText(reflect.New(f.Type).Elem()):
			out = append(out, leaves(f.Type, join(path, f.key))...)
		case f.Type.Kind() != reflect.Map:
			out = append(out, join(path, f.key))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

// leaf sets one plain value from the highest layer that has it.
func (b *binder) leaf(v reflect.Value, key string) {
	source := Source{Kind: KindDefault}
	for _, it := range []*item{b.c.file[key], b.c.env[EnvName(key)], b.c.flag[key]} {
		if it == nil {
			continue
		}
		b.used[it] = true
		if it.isNull() {
			continue
		}
		if err := set(v, it); err != nil {
			value := it.value
			if v.Type() == reflect.TypeFor[Secret]() {
				value = Secret(value).String()
			}
			b.errs = append(b.errs, &Error{Source: it.source, Key: key, Value: value, Problem: err.Error()})
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

// validate asks every struct that has something to say, the innermost first.
func (b *binder) validate(v reflect.Value, path string) {
	if v.Kind() == reflect.Map {
		for _, k := range v.MapKeys() {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(k))
			b.validate(e, join(path, k.String()))
		}
		return
	}
	if v.Kind() != reflect.Struct {
		return
	}
	for _, f := range fields(v.Type()) {
		b.validate(v.FieldByIndex(f.Index), join(path, f.key))
	}
	validator, ok := v.Addr().Interface().(Validator)
	if !ok {
		return
	}
	for _, err := range flatten(validator.Validate()) {
		bad, ok := errors.AsType[*invalid](err)
		if !ok {
			b.errs = append(b.errs, fmt.Errorf("configuration %s: %w", path, err))
			continue
		}
		key := join(path, bad.key)
		e := b.entries[key]
		b.errs = append(b.errs, &Error{Source: e.Source, Key: key, Value: e.Value, Problem: bad.problem})
	}
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// set gives v the value of an item. Its errors complete the sentence "VALUE …".
func set(v reflect.Value, it *item) error {
	if v.Kind() == reflect.Slice && !isText(v) {
		list := it.list
		if !it.isList {
			for s := range strings.SplitSeq(it.value, ",") {
				if s = strings.TrimSpace(s); s != "" {
					list = append(list, s)
				}
			}
		}
		out := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, s := range list {
			if err := setScalar(out.Index(i), s); err != nil {
				return err
			}
		}
		v.Set(out)
		return nil
	}
	if it.isList {
		return errors.New("is a list, want one value")
	}
	return setScalar(v, it.value)
}

func setScalar(v reflect.Value, s string) error {
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := t.UnmarshalText([]byte(s)); err != nil {
			return fmt.Errorf("is not usable: %w", err)
		}
		return nil
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New("is not a duration, want one with a unit such as 500ms, 2s or 1m30s")
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		x, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("is not a truth value, want true or false")
		}
		v.SetBool(x)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		x, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			return errors.New("is not a whole number that fits")
		}
		v.SetInt(x)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		x, err := strconv.ParseUint(s, 10, v.Type().Bits())
		if err != nil {
			return errors.New("is not a whole number of zero or more that fits")
		}
		v.SetUint(x)
	case reflect.Float32, reflect.Float64:
		x, err := strconv.ParseFloat(s, v.Type().Bits())
		if err != nil {
			return errors.New("is not a number")
		}
		v.SetFloat(x)
	default:
		return fmt.Errorf("cannot be set: the code has a %v there, which configuration does not support", v.Type())
	}
	return nil
}

// text is a value as it would be written in a file.
func text(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	if v.Kind() == reflect.Slice {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = text(v.Index(i))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v.Interface())
}
