package errtext_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"plinth.internal/internal/errtext"
)

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

// panicking panics with itself, which cannot be shown either.
type panicking struct{ in string }

func (e panicking) Error() string {
	if e.in == "Error" {
		panic(e)
	}
	return "fine"
}

func (e panicking) Unwrap() error {
	if e.in == "Unwrap" {
		panic("no chain")
	}
	return nil
}

type stringer struct{}

func (stringer) String() string { panic(stringer{}) }

func TestCheck(t *testing.T) {
	plain := errors.New("plain")
	for _, tc := range []struct {
		name string
		err  error
		text string // of what is broken, "" for nothing
	}{
		{"nil", nil, ""},
		{"plain", plain, ""},
		{"wrapped", fmt.Errorf("wrapped: %w", plain), ""},
		{"nil pointer", (*nilError)(nil), "a nil *errtext_test.nilError was given as an error"},
		{"joined nil pointer", errors.Join(plain, (*nilError)(nil)), "an error of the type *errors.joinError"},
		{"text panics", panicking{"Error"}, "an error of the type errtext_test.panicking"},
		{"chain panics", fmt.Errorf("wrapped: %w", panicking{"Unwrap"}), "no chain"},
		{"sound", panicking{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			broken := errtext.Check(tc.err)
			if tc.text == "" {
				if broken != nil {
					t.Errorf("it is broken: %v", broken)
				}
				return
			}
			if broken == nil {
				t.Fatal("nothing is broken")
			}
			if !strings.Contains(broken.Error(), tc.text) || !strings.Contains(string(broken.Stack), "errtext") {
				t.Errorf("it is %q at\n%s", broken.Error(), broken.Stack)
			}
		})
	}
}

func TestFurther(t *testing.T) {
	asked := 0
	if b := errtext.Check(errors.New("x"), func(error) { asked++ }); b != nil || asked != 1 {
		t.Errorf("broken %v, asked %d times", b, asked)
	}
	if b := errtext.Check(errors.New("x"), func(error) { panic("no code") }); b == nil || !strings.Contains(b.Error(), "no code") {
		t.Errorf("broken %v", b)
	}
}

func TestText(t *testing.T) {
	for _, tc := range []struct {
		value any
		want  string
	}{
		{nil, "<nil>"},
		{"text", "text"},
		{42, "42"},
		{errors.New("plain"), "plain"},
		{(*nilError)(nil), "a nil *errtext_test.nilError was given as an error"},
		{panicking{"Error"}, "a errtext_test.panicking that cannot be shown"},
		{panicking{"Unwrap"}, "fine"},
		{stringer{}, "a errtext_test.stringer that cannot be shown"},
	} {
		if got := errtext.Value(tc.value); !strings.Contains(got, tc.want) {
			t.Errorf("%T: %q, want %q", tc.value, got, tc.want)
		}
	}
	if got := errtext.Of(nil); got != "" {
		t.Errorf("nil: %q", got)
	}
}
