// Package errtext reads errors that somebody else has made. An error is code: one
// that is a nil pointer, or whose methods have a bug, panics in whoever asks it for
// its text, which is most often a log far away from where it was made. It keeps no
// state; everything may be called by any number of goroutines.
package errtext

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
)

// BrokenError is an error whose methods panic.
type BrokenError struct {
	// Stack is where the method panicked.
	Stack []byte

	text string
}

// Error says what type the error has and what its method panicked with.
func (b *BrokenError) Error() string { return b.text }

// Check asks an error for its text and for its chain, and whatever else the further
// questions are that it will be asked. It returns nil where the error has an answer
// to all of them, and for nil. Do it where an error comes in, so that everybody
// behind may ask.
func Check(err error, further ...func(error)) (broken *BrokenError) {
	if err == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			broken = newBroken(err, p)
		}
	}()
	_ = err.Error()
	_ = errors.Is(err, errNone)
	for _, ask := range further {
		ask(err)
	}
	return nil
}

// errNone is in no chain: a search for it goes through all of it.
var errNone = errors.New("none")

// Of is the text of an error, or of the [BrokenError] that it is; "" for nil.
func Of(err error) (text string) {
	if err == nil {
		return ""
	}
	defer func() {
		if p := recover(); p != nil {
			text = newBroken(err, p).text
		}
	}()
	return err.Error()
}

// Value is the text of any value, such as that of a panic.
func Value(v any) (text string) {
	if err, ok := v.(error); ok {
		return Of(err)
	}
	return plain(v)
}

func newBroken(err error, p any) *BrokenError {
	b := &BrokenError{Stack: debug.Stack()}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		b.text = fmt.Sprintf("a nil %T was given as an error, which is not nil then: give a plain nil where nothing went wrong (%s)", err, plain(p))
		return b
	}
	b.text = fmt.Sprintf("an error of the type %T, which panics when it is asked what it is: %s", err, plain(p))
	return b
}

// plain is fmt.Sprint, which panics itself where a value that cannot be shown has
// panicked with another one.
func plain(v any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("a %T that cannot be shown", v)
		}
	}()
	return fmt.Sprint(v)
}
