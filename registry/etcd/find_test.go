package etcd

import (
	"errors"
	"slices"
	"testing"
)

func TestPick(t *testing.T) {
	all := []string{"billing/b-1", "billing/shared", "orders/o-1", "orders/o-12", "orders/o-2", "orders/shared"}
	tests := []struct {
		name, want string
		match      string
		ambiguous  []string
		near       []string
	}{
		{name: "the ID", want: "b-1", match: "billing/b-1"},
		{name: "an ID that another one begins with", want: "o-1", match: "orders/o-1"},
		{name: "the beginning of one", want: "b", match: "billing/b-1"},
		{name: "the beginning of several", want: "o", ambiguous: []string{"orders/o-1", "orders/o-12", "orders/o-2"}},
		{name: "one ID in two services", want: "shared", ambiguous: []string{"billing/shared", "orders/shared"}},
		{name: "with the service", want: "orders/shared", match: "orders/shared"},
		{name: "with the service, the beginning", want: "billing/b", match: "billing/b-1"},
		{name: "the service is not cut short", want: "bill/b-1", near: []string{"billing/b-1"}},
		{name: "a slip", want: "o-3", near: []string{"orders/o-1", "orders/o-12", "orders/o-2"}},
		{name: "the middle", want: "hare", near: []string{"billing/shared", "orders/shared"}},
		{name: "nothing like it", want: "zzzzzz"},
		{name: "nothing at all", want: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			match, err := pick(all, tt.want)
			if match != tt.match {
				t.Errorf("pick = %q, want %q", match, tt.match)
			}
			if ambiguous, ok := errors.AsType[*AmbiguousError](err); ok != (tt.ambiguous != nil) || ok && !slices.Equal(ambiguous.Matches, tt.ambiguous) {
				t.Errorf("error %#v, want matches %q", err, tt.ambiguous)
			}
			missing, ok := errors.AsType[*NotFoundError](err)
			if ok != (tt.match == "" && tt.ambiguous == nil) {
				t.Fatalf("error %v", err)
			}
			if ok && !slices.Equal(missing.Near, tt.near) {
				t.Errorf("near %q, want %q", missing.Near, tt.near)
			}
		})
	}
}

func TestPickProposesAFew(t *testing.T) {
	var all []string
	for range 100 {
		all = append(all, "orders/orders-abc")
	}
	_, err := pick(all, "orders-abd")
	if missing, ok := errors.AsType[*NotFoundError](err); !ok || len(missing.Near) != maxNear {
		t.Errorf("error %#v, want %d proposals", err, maxNear)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "abd", 1},
		{"abc", "bc", 1},
		{"abc", "acb", 2},
		{"sitting", "kitten", 3},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
