package config

import (
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
// A key in a file with nothing behind it sets nothing, as if it were not there.
// Where that could be taken for something else, the tag empty:"false" makes it an
// error.
//
// A map's keys are those of the defaults, the file and the command line. The
// environment can add one, in lower case and with dashes, except to a map inside
// a map: PLINTH_CLIENTS_PRICE_LIST_TIMEOUT is clients.price-list.timeout.
//
// Keys below the path that T does not have are errors, except at the root:
// there other parts may bind them, and [Config.Unused] reports what is left.
//
// All keys are cold: later changes of the configuration are checked and need a
// restart to apply. [Watch] binds hot keys.
func Bind[T any](c *Config, path string, defaults T) (T, error) {
	value, _, err := bind(c, path, defaults, nil)
	if err != nil {
		return defaults, err
	}
	return *value, nil
}

// Watch does what [Bind] does, for keys that are hot: the value follows the
// configuration as it is reloaded, see [Config.Reload] and [Config.Follow]. Hot
// are the fields tagged hot:"true", with all that is below them but for what is
// tagged hot:"false"; where no field is tagged, all are. Other fields keep what
// they had at the start.
//
// Call it during setup, once for a section: what is watched is held by c for as
// long as c lives.
func Watch[T any](c *Config, path string, defaults T) (*Value[T], error) {
	v := &Value[T]{config: c}
	_, slot, err := bind(c, path, defaults, v)
	if err != nil {
		return nil, err
	}
	v.slot = slot
	return v, nil
}

// binding is what was bound, to be bound again when a document has changed.
type binding struct {
	path    string
	typ     reflect.Type
	watch   bool
	allHot  bool                             // of a watch: every key is
	lay     func(b *binder) any              // lays b's layers over the defaults; returns a pointer to the struct
	changed func(before, after any) []func() // nil where nobody watches
}

// bind binds and keeps the binding, in the returned slot.
func bind[T any](c *Config, path string, defaults T, watcher *Value[T]) (*T, int, error) {
	typ := reflect.TypeFor[T]()
	if typ.Kind() != reflect.Struct {
		return nil, 0, fmt.Errorf("bind configuration %q: %T is not a struct", path, defaults)
	}
	bd := &binding{path: path, typ: typ}
	if watcher != nil {
		bd.watch, bd.allHot, bd.changed = true, !marksHot(typ), watcher.changed
	}
	bd.lay = func(b *binder) any {
		out := defaults
		v := reflect.ValueOf(&out).Elem()
		b.structure(v, path)
		if b.strict {
			b.unknown(v, path)
		}
		b.validate(v, path)
		return &out
	}
	for {
		old := c.state.Load()
		r, err := bd.bind(old.start, old.current, old.central)
		if err != nil {
			return nil, 0, err
		}
		next := *old
		next.entries, next.used = maps.Clone(old.entries), maps.Clone(old.used)
		maps.Copy(next.entries, r.entries)
		maps.Copy(next.used, r.used)
		// Binding the same once more must not make every reload dearer.
		slot := slices.IndexFunc(old.bindings, func(o *binding) bool { return !o.watch && !bd.watch && o.path == path && o.typ == typ })
		if slot < 0 {
			slot = len(old.bindings)
			next.bindings = append(slices.Clip(old.bindings), bd)
			next.values = append(slices.Clip(old.values), r.value)
		} else {
			next.bindings, next.values = slices.Clone(old.bindings), slices.Clone(old.values)
			next.bindings[slot], next.values[slot] = bd, r.value
		}
		if c.state.CompareAndSwap(old, &next) {
			value, _ := r.value.(*T)
			return value, slot, nil
		}
	}
}

// marksHot reports a struct with a field that is tagged as hot, at any depth.
func marksHot(t reflect.Type) bool {
	seen := map[reflect.Type]bool{} // a map may be of the struct that it stands in
	var marks func(t reflect.Type) bool
	marks = func(t reflect.Type) bool {
		for t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if isPlain(t) || seen[t] {
			return false
		}
		seen[t] = true
		return slices.ContainsFunc(fields(t), func(f field) bool { return f.hot || marks(f.Type) })
	}
	return marks(t)
}

// binder lays the layers over one struct. What it collects is kept only when all
// went well.
type binder struct {
	cold, warm layers // where cold and hot keys have their values from
	watch      bool   // tags make fields hot
	strict     bool   // report keys that the struct does not have

	entries map[string]entry
	used    map[*item]bool
	errs    []error
	hot     bool // where the binder is now, keys are hot
	inMap   bool // below a map
}

// layers are those for the keys where the binder is now.
func (b *binder) layers() layers {
	if b.hot {
		return b.warm
	}
	return b.cold
}

// given are the items of a key, lowest precedence first.
func (b *binder) given(key string) []*item { return b.layers().given(key) }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (b *binder) structure(v reflect.Value, path string) {
	b.section(path, false)
	outer := b.hot
	for _, f := range fields(v.Type()) {
		b.hot = f.under(outer, b.watch)
		if f.full {
			b.full(join(path, f.key))
		}
		b.value(v.FieldByIndex(f.Index), join(path, f.key))
	}
	b.hot = outer
}

// full reports a key with nothing behind it where that is not the same as no key.
func (b *binder) full(key string) {
	for _, it := range b.given(key) {
		if it.isNull {
			b.errs = append(b.errs, &Error{Source: it.source, Key: key, Problem: "has nothing behind it; give it a value, or leave the key out"})
		}
	}
}

// section reports a value that was given where keys are wanted.
func (b *binder) section(path string, secret bool) {
	for _, it := range b.given(path) {
		b.used[it] = true
		if !it.isNull {
			b.errs = append(b.errs, &Error{Source: it.source, Key: path, Value: shown(it.value, secret), Problem: "is a plain value, want keys below " + path})
		}
	}
}

// field is a field of a struct that is a key.
type field struct {
	reflect.StructField

	key  string
	hot  bool // it is tagged so, or the inline struct that it comes from
	cold bool // it is tagged so, within what is hot
	full bool // it is tagged so: a key with nothing behind it is an error
}

// under tells whether the field is hot in a struct that is or is not. Tags that
// make a field hot count where the struct is watched.
func (f field) under(hot, watch bool) bool { return (hot || watch && f.hot) && !f.cold }

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
				inner.hot = inner.hot || isHot(f)
				out = append(out, inner)
			}
			continue
		}
		if f.IsExported() && key != "" && key != "-" {
			out = append(out, field{f, key, isHot(f), f.Tag.Get("hot") == "false", f.Tag.Get("empty") == "false"})
		}
	}
	return out
}

// isHot reports the tag that marks a field as hot.
func isHot(f reflect.StructField) bool { return f.Tag.Get("hot") == "true" }

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
		b.used[it] = true
		if it.isNull {
			continue
		}
		if err := set(v, it); err != nil {
			b.errs = append(b.errs, &Error{
				Source: it.source, Key: key, Value: shown(it.value, holdsSecret(v.Type())), Empty: it.value == "" && !it.isList, Problem: err.Error(),
			})
			continue
		}
		source = it.source
	}
	b.entries[key] = entry{Entry{Key: key, Value: written(v), Source: source, Hot: b.hot}, v.Interface()}
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
	for _, l := range b.warm.byPath() {
		if l.feed {
			continue // see strays
		}
		for key, it := range l.items {
			below := func(section string) bool { return strings.HasPrefix(key, section+".") }
			if !b.used[it] && slices.ContainsFunc(sections, below) {
				err := unknownKey(it.source, key, b.entries)
				if it.depth > 0 && it.depth <= strings.Count(key, ".") {
					err = fmt.Errorf("%w (a dot ends a part of a key: no name in it may have one)", err)
				}
				errs = append(errs, err)
			}
		}
	}
	b.errs = append(b.errs, sorted(errs)...)
}
