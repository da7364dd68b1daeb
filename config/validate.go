package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Validator is implemented by structs whose values have constraints of their
// own. Errors made by [Invalid] get the place of the value added, or of the
// nearest one that was given.
type Validator interface {
	Validate() error
}

// Invalid says that the value of a key is not usable. The key is relative to
// the struct that is validated.
func Invalid(key, format string, args ...any) error {
	return &invalid{key: key, problem: fmt.Sprintf(format, args...)}
}

// InvalidUnshown is [Invalid] without the value: for one that must not be shown, or
// that the text shows already.
func InvalidUnshown(key, format string, args ...any) error {
	return &invalid{key: key, problem: fmt.Sprintf(format, args...), unshown: true}
}

// InvalidNow is [Invalid] for what may be well later although no document changes,
// such as a file that a value names: [Config.Follow] tries again until it is.
func InvalidNow(key, format string, args ...any) error {
	return &invalid{key: key, problem: fmt.Sprintf(format, args...), passing: true}
}

// errPassing is what an [Error] of [InvalidNow] is.
var errPassing = errors.New("may be well later")

// StartValidator is a [Validator] of what only a start can do wrong. It is asked
// whether a start with the documents as they are would be good, and not when hot
// values lie over cold ones that wait for a restart.
type StartValidator interface {
	// ValidateStart is Validate. Where is the place at which a key, or the first
	// one below it, was given; its kind is KindDefault where none was. Keys are
	// relative to the struct.
	ValidateStart(where func(key string) Source) error
}

type invalid struct {
	key, problem string
	unshown      bool
	passing      bool
}

func (e *invalid) Error() string { return e.key + ": " + e.problem }

// validate asks every struct that has something to say, the innermost first.
func (b *binder) validate(v reflect.Value, path string) {
	if v.Kind() == reflect.Map {
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
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
	if validator, ok := reflect.TypeAssert[Validator](v.Addr()); ok {
		b.report(path, validator.Validate())
	}
	if validator, ok := reflect.TypeAssert[StartValidator](v.Addr()); ok && b.strict {
		b.report(path, validator.ValidateStart(func(key string) Source { return b.where(join(path, key), "") }))
	}
}

// report adds to errors of a struct the place of the value. A value that was not given
// has that of what was given beside it.
func (b *binder) report(path string, err error) {
	for _, err := range flatten(err) {
		bad, ok := errors.AsType[*invalid](err)
		if !ok {
			if path != "" {
				err = fmt.Errorf("%s: %w", path, err)
			}
			b.errs = append(b.errs, fmt.Errorf("validate configuration: %w", maskedError{err}))
			continue
		}
		key := join(path, bad.key)
		entry := b.entries[key]
		value, empty := "", false
		if !bad.unshown {
			value = Mask(entry.Value)
			said := strings.Contains(bad.problem, "empty")
			empty = value == "" && !said && entry.Source.Kind != KindDefault && reflect.ValueOf(entry.value).Kind() == reflect.String
		}
		b.errs = append(b.errs, &Error{Source: b.origin(key, path, bad.problem), Key: key, Value: value, Empty: empty, Problem: bad.problem, passing: bad.passing})
	}
}

// origin is where a key was given, or keys below it. For one that was not given it
// is where the nearest ones beside it were, no higher than the struct that is
// validated: a key that the problem speaks of before others, of those the first.
func (b *binder) origin(key, path, problem string) Source {
	for {
		if source := b.where(key, problem); source.Kind != KindDefault {
			return source
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 || key == path {
			return Source{Kind: KindDefault}
		}
		key = key[:dot]
	}
}

// where is the place at which a key was given, or keys below it; its kind is
// KindDefault where none was.
func (b *binder) where(key, problem string) Source {
	var best *entry
	for k, e := range b.entries {
		if e.Source.Kind == KindDefault || k != key && !strings.HasPrefix(k, key+".") {
			continue
		}
		if best == nil || cmp.Or(
			named(problem, best.Key)-named(problem, k), strings.Compare(e.Source.Name, best.Source.Name),
			e.Source.Line-best.Source.Line, strings.Compare(k, best.Key),
		) < 0 {
			best = &e
		}
	}
	if best != nil {
		return best.Source
	}
	if given := b.layers().given(key); len(given) > 0 {
		return given[len(given)-1].source // there is nothing in it
	}
	return Source{Kind: KindDefault}
}

// named is 1 for a text that speaks of a key.
func named(text, key string) int {
	if strings.Contains(text, key) {
		return 1
	}
	return 0
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range many.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}
