package typo

import (
	"slices"
	"testing"
)

func TestEditDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "bc", 1},
		{"grcp", "grpc", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"server.grcp.adr", "server.grpc.addr", 2},
	} {
		if got := editDistance(tc.a, tc.b, 5); got != tc.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if got := editDistance(tc.b, tc.a, 5); got != tc.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tc.b, tc.a, got, tc.want)
		}
	}
	if got := editDistance("a", "abcdefgh", 2); got <= 2 {
		t.Errorf("beyond the limit: %d", got)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"hello.v1.Hello/Set", "hello.v1.Hello/Get", "GET /limits"}
	for name, want := range map[string]string{
		"hello.v1.Hello/Gte": "hello.v1.Hello/Get", "hello.v1.Hello/Let": "hello.v1.Hello/Get", "hello.Hello/Get": "hello.v1.Hello/Get",
		"GET /limit": "GET /limits", "orders.v1.Orders/Get": "", "GTE": "", "": "",
	} {
		if got := Nearest(name, slices.Values(known)); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}
