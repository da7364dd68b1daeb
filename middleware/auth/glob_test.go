package auth

import (
	"strings"
	"testing"
	"time"
)

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "any/thing", true},
		{"a", "a", true},
		{"a", "A", false},
		{"a", "ab", false},
		{"ab", "a", false},
		{"orders.v1.Orders/*", "orders.v1.Orders/Get", true},
		{"orders.v1.Orders/*", "orders.v1.OrdersX/Get", false},
		{"*/Get", "orders.v1.Orders/Get", true},
		{"*/Get", "orders.v1.Orders/GetAll", false},
		{"GET /items/*", "GET /items/{id}", true},
		{"GET /items/*", "POST /items/{id}", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "aXbbYc", true},
		{"a*b*c", "aXbYcd", false},
		{"**", "x", true},
		{"a?c", "abc", false},
		{"[a]", "a", false},
	} {
		if got := Matches(tc.pattern, tc.s); got != tc.want {
			t.Errorf("Matches(%q, %q) = %v", tc.pattern, tc.s, got)
		}
	}
}

// TestMatchesIsQuick: no pattern and no name make it slow.
func TestMatchesIsQuick(t *testing.T) {
	begun := time.Now()
	if Matches(strings.Repeat("*a", 64), strings.Repeat("a", maxSubject-1)+"b") {
		t.Error("it matches")
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int, int](100)
	for i := range 10_000 {
		c.put(i, i)
		c.get(0) // is used all the time, and stays
	}
	if n := len(c.young) + len(c.old); n > 200 {
		t.Errorf("it holds %d", n)
	}
	if _, ok := c.get(0); !ok {
		t.Error("what was used last is gone")
	}
	if _, ok := c.get(9_999); !ok {
		t.Error("what was put last is gone")
	}
	if _, ok := c.get(5_000); ok {
		t.Error("what nobody has used is still there")
	}
	if c.drop(0); len(c.young)+len(c.old) > 200 {
		t.Error("it has grown")
	}
	if _, ok := c.get(0); ok {
		t.Error("what was dropped is still there")
	}
}
