package config

import (
	"errors"
	"slices"
	"strings"
)

// item is a value that was given somewhere, not yet typed.
type item struct {
	source Source
	value  string
	list   []string // of a YAML list
	isList bool
	isNull bool // a key with nothing behind it, which sets nothing
	depth  int  // of the mappings in a file that it stands in; 0 elsewhere
}

// layer is what was given in one place.
type layer struct {
	items  map[string]*item // by key path, leaves only
	byName bool             // the environment: by the variable's name
	shared bool             // of a document that several services read
	feed   bool             // of a feed's document
}

// layers are what was given in all places, lowest precedence first. They are
// never changed: another reading of a document makes new ones.
type layers []layer

// given yields the items of a key, lowest precedence first.
func (ls layers) given(key string) []*item {
	var out []*item
	for _, l := range ls {
		name := key
		if l.byName {
			name = EnvName(key)
		}
		if it := l.items[name]; it != nil {
			out = append(out, it)
		}
	}
	return out
}

// byPath are the layers that spell keys as paths.
func (ls layers) byPath() layers {
	return slices.DeleteFunc(slices.Clone(ls), func(l layer) bool { return l.byName })
}

// byVariable are the layers that spell keys as variables.
func (ls layers) byVariable() layers {
	return slices.DeleteFunc(slices.Clone(ls), func(l layer) bool { return !l.byName })
}

// unused reports the items of the current layers that nothing has asked for.
func (s *state) unused() error {
	var errs []error
	for _, l := range s.current {
		for key, it := range l.items {
			if s.used[it] {
				continue
			}
			if l.byName {
				name := key
				key = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, EnvPrefix), "_", "."))
				if slices.ContainsFunc(s.bindings, func(b *binding) bool { return inInnerMap(b.typ, b.path, name) }) {
					errs = append(errs, &Error{Source: it.source, Key: key, Problem: "is not a known key: of a map inside a map, such as methods, " +
						"a variable can only change keys that a file or a flag names, for it does not tell upper from lower case; use a flag"})
					continue
				}
			}
			errs = append(errs, unknownKey(it.source, key, s.entries))
		}
	}
	return errors.Join(sorted(errs)...)
}

// readFlags reads settings of the form "key.path=value".
func readFlags(settings []string) (layer, error) {
	flags := layer{items: map[string]*item{}}
	var errs []error
	for _, kv := range settings {
		key, value, ok := strings.Cut(kv, "=")
		src := Source{Kind: KindFlag, Name: "--" + key}
		switch _, twice := flags.items[key]; {
		case key == "":
			errs = append(errs, &Error{Source: src, Problem: "is not a setting, want --KEY=VALUE"})
		case !ok:
			errs = append(errs, &Error{Source: src, Key: key, Problem: "has no value, want --" + key + "=VALUE"})
		case twice:
			errs = append(errs, &Error{Source: src, Key: key, Problem: "is given twice"})
		default:
			flags.items[key] = &item{source: src, value: value}
		}
	}
	return flags, errors.Join(errs...)
}

func sorted(errs []error) []error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}
