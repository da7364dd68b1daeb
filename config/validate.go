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
// own. Errors made by [Invalid] get the place of the value added.
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
		b.report(path, validator.ValidateStart(func(key string) Source { return b.where(join(path, key)) }))
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
			b.errs = append(b.errs, fmt.Errorf("validate configuration: %w", err))
			continue
		}
		key := join(path, bad.key)
		out := &Error{Source: b.where(key), Key: key, Value: b.entries[key].Value, Problem: bad.problem}
		if dot := strings.LastIndexByte(key, '.'); dot > 0 && out.Source.Kind == KindDefault {
			out.Source = b.where(key[:dot])
		}
		if bad.unshown {
			out.Value = ""
		}
		b.errs = append(b.errs, out)
	}
}

// where is the place at which a key was given, or the first key below it.
func (b *binder) where(key string) Source {
	first := b.entries[key].Source
	if _, leaf := b.entries[key]; leaf {
		return first
	}
	first.Kind = KindDefault
	for k, e := range b.entries {
		if strings.HasPrefix(k, key+".") && before(e.Source, first) {
			first = e.Source
		}
	}
	return first
}

// before orders places by how easily a person finds the rest there.
func before(a, b Source) bool {
	kinds := []string{KindFile, KindFlag, KindEnv, KindFeed, KindDefault}
	return cmp.Or(
		cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
		strings.Compare(a.Name, b.Name), cmp.Compare(a.Line, b.Line),
	) < 0
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
