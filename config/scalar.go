package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

func isText(v reflect.Value) bool {
	_, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
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
	if t, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if err := t.UnmarshalText([]byte(s)); err != nil {
			return fmt.Errorf("is not usable: %w", maskError(err))
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

// written is a value as it would be written in a file, masked.
func written(v reflect.Value) string {
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		if b, err := m.MarshalText(); err == nil {
			return Mask(string(b))
		}
	}
	if v.Kind() == reflect.Slice {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = written(v.Index(i))
		}
		return strings.Join(parts, ",")
	}
	return Mask(fmt.Sprint(v.Interface()))
}
