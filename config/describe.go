package config

import (
	"reflect"
	"strings"
)

// Key describes one key of a struct, for help and documentation.
type Key struct {
	// Path is the key's path; "<name>" stands for the keys of a map.
	Path string
	// Env is the environment variable, "" below a map.
	Env string
	// Default is the default as it would be written, "" below a map.
	Default string
	// Doc is the field's doc tag.
	Doc string
	// Hot says that the field is tagged hot:"true", or stands below one that is
	// and is not tagged hot:"false".
	Hot bool
}

// Describe lists the keys of a struct in its order, with the given defaults.
func Describe[T any](defaults T) []Key {
	v := reflect.ValueOf(&defaults).Elem()
	return describe(v, "", false, nil)
}

func describe(v reflect.Value, path string, hot bool, keys []Key) []Key {
	for _, f := range fields(v.Type()) {
		fv, key, hot := v.FieldByIndex(f.Index), join(path, f.key), f.under(hot, true)
		switch {
		case fv.Kind() == reflect.Map:
			elem := reflect.New(fv.Type().Elem()).Elem()
			key = join(key, "<name>")
			if elem.Kind() == reflect.Struct && !isText(elem) {
				for _, k := range describe(elem, key, hot, nil) {
					keys = append(keys, Key{Path: k.Path, Doc: k.Doc, Hot: k.Hot})
				}
				continue
			}
			keys = append(keys, Key{Path: key, Doc: f.Tag.Get("doc"), Hot: hot})
		case fv.Kind() == reflect.Struct && !isText(fv):
			keys = describe(fv, key, hot, keys)
		default:
			keys = append(keys, Key{Path: key, Env: EnvName(key), Default: written(fv), Doc: f.Tag.Get("doc"), Hot: hot})
		}
	}
	return keys
}

// Written are the values of a struct by their keys, as they would be written and
// through [Mask], a secret as "***".
func Written[T any](value T) map[string]string {
	out := map[string]string{}
	write(reflect.ValueOf(&value).Elem(), "", out)
	return out
}

func write(v reflect.Value, path string, out map[string]string) {
	switch {
	case isPlain(v.Type()):
		out[path] = written(v)
	case v.Kind() == reflect.Map:
		for _, k := range v.MapKeys() {
			write(v.MapIndex(k), join(path, k.String()), out)
		}
	default:
		for _, f := range fields(v.Type()) {
			write(v.FieldByIndex(f.Index), join(path, f.key), out)
		}
	}
}

// findKey tells whether a struct has a key of this path, and whether it is hot.
// It looks at types only: a key of a map need not be there.
func findKey(t reflect.Type, path string, hot, watch bool) (known, isHot bool) {
	for _, f := range fields(t) {
		typ, hot := f.Type, f.under(hot, watch)
		if path == f.key {
			return isPlain(typ), hot
		}
		rest, below := strings.CutPrefix(path, f.key+".")
		if !below {
			continue
		}
		for !isPlain(typ) && typ.Kind() == reflect.Map {
			if typ = typ.Elem(); isPlain(typ) {
				return true, hot // the keys of such a map may have dots
			}
			if _, rest, below = strings.Cut(rest, "."); !below {
				return false, hot
			}
		}
		if !isPlain(typ) {
			return findKey(typ, rest, hot, watch)
		}
	}
	return false, hot
}
