package framework

import "testing"

func TestFindMethod(t *testing.T) {
	served := []string{"GET /limits", "GET /limits/{id}", "hello.v1.Hello/Get", "hello.v1.Hello/Set", "unmatched"}
	for _, tt := range []struct {
		pattern, nearest string
		ok               bool
	}{
		{"hello.v1.Hello/Get", "", true},
		{"hello.v1.Hello/Gte", "hello.v1.Hello/Get", false},
		{"hello.v1.Hello/Get*", "", true},
		{"hello.v1.*", "", true},
		{"*", "", true},
		{"**/G*t", "", true},
		{"*/G*tt", "", false},
		{"*Hello*Set", "", true},
		{"*Get*Get", "", false},
		{"helo.v1.Hello/*", "hello.v1.Hello/*", false},
		{"GET /limits/{id}", "", true},
		{"GET /limit", "GET /limits", false},
		{"GET /limits/{name}", "", false},
		{"unmatched", "", true},
		{"", "", false},
	} {
		if nearest, ok := findMethod(tt.pattern, served); nearest != tt.nearest || ok != tt.ok {
			t.Errorf("%q: %q, %v, want %q, %v", tt.pattern, nearest, ok, tt.nearest, tt.ok)
		}
	}
}
