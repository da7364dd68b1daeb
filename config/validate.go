package config

import (
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

type invalid struct{ key, problem string }

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
	validator, ok := reflect.TypeAssert[Validator](v.Addr())
	if !ok {
		return
	}
	for _, err := range flatten(validator.Validate()) {
		bad, ok := errors.AsType[*invalid](err)
		if !ok {
			if path != "" {
				err = fmt.Errorf("%s: %w", path, err)
			}
			b.errs = append(b.errs, fmt.Errorf("validate configuration: %w", err))
			continue
		}
		key := join(path, bad.key)
		e := b.entries[key]
		b.errs = append(b.errs, &Error{Source: e.Source, Key: key, Value: e.Value, Problem: bad.problem})
	}
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
