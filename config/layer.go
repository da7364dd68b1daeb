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

// unused reports the items that are not in used.
func (ls layers) unused(used map[*item]bool, entries map[string]entry) error {
	var errs []error
	for _, l := range ls {
		for key, it := range l.items {
			if used[it] {
				continue
			}
			if l.byName {
				key = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(key, EnvPrefix), "_", "."))
			}
			errs = append(errs, unknownKey(it.source, key, entries))
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
