package config

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// mapping fills a map from strings.
func (b *binder) mapping(v reflect.Value, key string) {
	elem := v.Type().Elem()
	b.section(key, holdsSecret(elem))
	outermost := !b.inMap
	b.inMap = true
	names := map[string]bool{}
	for _, k := range v.MapKeys() {
		names[k.String()] = true
	}
	prefix := key + "."
	for _, l := range b.layers().byPath() {
		for k, it := range l.items {
			if rest, ok := strings.CutPrefix(k, prefix); ok {
				names[b.mapKey(elem, rest)] = true
				b.tooDeep(elem, key, k, it)
			}
		}
	}
	// A default map must not be written to: it may be shared.
	next := reflect.MakeMapWithSize(v.Type(), len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		b.element(next, v, key, name)
	}
	// Only variables that are not yet part of a known key can name a new one.
	if outermost {
		for _, name := range b.envKeys(elem, key) {
			b.element(next, v, key, name)
		}
		b.inMap = false
	}
	if next.Len() > 0 || !v.IsNil() {
		v.Set(next)
	}
}

// element binds one value of a map, over its default in old, into next.
func (b *binder) element(next, old reflect.Value, key, name string) {
	k := reflect.ValueOf(name).Convert(next.Type().Key())
	e := reflect.New(next.Type().Elem()).Elem()
	if v := old.MapIndex(k); v.IsValid() {
		e.Set(v)
	}
	b.value(e, join(key, name))
	next.SetMapIndex(k, e)
}

// mapKey cuts the map's own key off the rest of a path. The keys of a map of
// plain values may have dots in them.
func (b *binder) mapKey(elem reflect.Type, rest string) string {
	if !isPlain(elem) {
		rest, _, _ = strings.Cut(rest, ".")
	}
	return rest
}

// tooDeep reports a mapping in a file where a map's plain value is wanted, which
// would otherwise pass for a key with a dot in it.
func (b *binder) tooDeep(elem reflect.Type, mapKey, key string, it *item) {
	if !isPlain(elem) || it.depth <= strings.Count(mapKey, ".")+2 || b.used[it] {
		return
	}
	b.used[it] = true
	b.errs = append(b.errs, &Error{Source: it.source, Key: key, Problem: "is nested too deep, want plain values below " + mapKey})
}

// isPlain reports a type that one value in a file fills.
func isPlain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return isText(reflect.New(t).Elem())
	}
	return true
}

// envKeys are the map keys that variables name which belong to nothing else. For
// a map of structs the name is what is left between the map's own part and that
// of one of the struct's leaves.
func (b *binder) envKeys(elem reflect.Type, key string) []string {
	prefix := EnvName(key) + "_"
	suffixes, inner := []string{""}, []string(nil)
	if !isPlain(elem) {
		suffixes, inner = leaves(elem)
	}
	names := map[string]bool{}
	for _, l := range b.layers().byVariable() {
		for env, it := range l.items {
			rest, ok := strings.CutPrefix(env, prefix)
			if !ok || b.used[it] || slices.ContainsFunc(inner, func(m string) bool { return strings.Contains(rest, m) }) {
				continue
			}
			for _, s := range suffixes {
				if name, ok := strings.CutSuffix(rest, s); ok && name != "" {
					names[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] = true
					break
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// inInnerMap reports a variable that can only be meant for a map inside a map of a
// struct that is bound at the path: none adds a key there.
func inInnerMap(t reflect.Type, path, variable string) bool {
	if t.Kind() == reflect.Map {
		_, inner := leaves(t.Elem())
		rest, ok := strings.CutPrefix(variable, EnvName(path)+"_")
		return ok && slices.ContainsFunc(inner, func(m string) bool { return strings.Contains(rest, m) })
	}
	return !isPlain(t) && slices.ContainsFunc(fields(t), func(f field) bool { return inInnerMap(f.Type, join(path, f.key), variable) })
}

// leaves are a struct's plain values as variables end in them ("_MAX_ATTEMPTS"),
// longest first so that a longer name wins over its own tail, and its maps as
// they stand within ("_METHODS_").
func leaves(t reflect.Type) (suffixes, inner []string) {
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		if t.Kind() != reflect.Struct {
			return // a map of maps has no leaves of its own
		}
		for _, f := range fields(t) {
			part := path + "_" + envPart(f.key)
			switch {
			case isPlain(f.Type):
				suffixes = append(suffixes, part)
			case f.Type.Kind() == reflect.Map:
				inner = append(inner, part+"_")
			default:
				walk(f.Type, part)
			}
		}
	}
	walk(t, "")
	slices.SortFunc(suffixes, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return suffixes, inner
}
