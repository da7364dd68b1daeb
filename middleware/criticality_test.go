package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"plinth.internal/middleware"
)

func TestCriticality(t *testing.T) {
	for _, c := range []middleware.Criticality{middleware.Critical, middleware.CriticalPlus, middleware.SheddablePlus, middleware.Sheddable} {
		if got := middleware.ParseCriticality(c.String()); got != c {
			t.Errorf("%s is read as %s", c, got)
		}
		if got := middleware.CriticalityOf(middleware.WithCriticality(t.Context(), c)); got != c {
			t.Errorf("%s is %s in its context", c, got)
		}
	}
	for _, name := range []string{"", "Critical_Plus", "sheddable ", "x"} {
		if got := middleware.ParseCriticality(name); got != middleware.Critical {
			t.Errorf("%q is read as %s", name, got)
		}
	}
	if got := middleware.Criticality(200).String(); got != "critical" {
		t.Errorf("what does not exist is %q", got)
	}
	if got := middleware.CriticalityOf(context.Background()); got != middleware.Critical {
		t.Errorf("the default is %s", got)
	}
}

type turnedAwayError bool

func (turnedAwayError) Error() string       { return "turned away" }
func (e turnedAwayError) Unprocessed() bool { return bool(e) }

func TestUnprocessed(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("x"), false},
		{turnedAwayError(true), true},
		{turnedAwayError(false), false},
		{fmt.Errorf("call: %w", turnedAwayError(true)), true},
	} {
		if got := middleware.IsUnprocessed(tt.err); got != tt.want {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}
