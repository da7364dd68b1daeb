package floors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTree holds the repository to its own table.
func TestTree(t *testing.T) {
	const root = "../.."
	document, err := os.ReadFile(filepath.Join(root, "docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Parse(string(document))
	if err != nil {
		t.Fatal(err)
	}
	found, err := Check(root, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

const table = "text before\n```floors\n" + `
floor 3 cmd/...
floor 2 top
floor 1 mid mid/* other
floor 0 internal/...

allow mid/x -> other        # for a reason
std internal/...
wall example.com/heavy = mid   # only there
wall example.com/heavy/own = top   # the longest decides
wall internal/secret = top     # only there
pure mid/pure : os net example.com/log   # numbers only
forbid init in mid/x        # for a reason
forbid exit in cmd/...      # programs exit
forbid panic
forbid global-goroutine
forbid global-state
forbid global-setter
forbid grpc-registry
forbid no-package-doc
` + "```\ntext after, floor 9 nothing\n"

// TestCheck holds a small tree to a small table: each kind of violation is found, and nothing else.
func TestCheck(t *testing.T) {
	rules, err := Parse(table)
	if err != nil {
		t.Fatal(err)
	}
	doc := "// Package p is documented.\n"
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{name: "down", files: map[string]string{"top/a.go": doc + "package p\nimport (\n_ \"m/mid\"\n_ \"m/internal/a\"\n)"}},
		{name: "child", files: map[string]string{"mid/a.go": doc + "package p\nimport _ \"m/mid/x\""}},
		{name: "up", files: map[string]string{"mid/a.go": doc + "package p\nimport _ \"m/top\""}, want: []string{"mid/a.go:3: floor: imports top, up from floor 1 to 2"}},
		{name: "sideways", files: map[string]string{"mid/a.go": doc + "package p\nimport _ \"m/other\""}, want: []string{"mid/a.go:3: floor: imports other, on the same floor 1"}},
		{name: "siblings", files: map[string]string{"mid/y/a.go": doc + "package p\nimport _ \"m/mid/x\""}, want: []string{"mid/y/a.go:3: floor: imports mid/x, on the same floor 1"}},
		{name: "allowed", files: map[string]string{"mid/x/a.go": doc + "package p\nimport _ \"m/other\""}},
		{name: "no floor", files: map[string]string{"attic/a.go": doc + "package p"}, want: []string{"attic: floor: "}},
		{name: "test files are free", files: map[string]string{"mid/a.go": doc + "package p", "mid/a_test.go": "package p\nimport _ \"m/top\"\nfunc init() {}"}},
		{name: "nested modules are left out", files: map[string]string{"mid/nested/go.mod": "module n", "mid/nested/a.go": "package p\nfunc init() {}"}},
		{name: "testdata is left out", files: map[string]string{"mid/testdata/a.go": "package p\nfunc init() {}"}},
		{name: "std", files: map[string]string{"internal/a/a.go": doc + "package p\nimport _ \"github.com/x/y\"\nimport _ \"net/http\""}, want: []string{"internal/a/a.go:3: std: "}},
		{name: "wall", files: map[string]string{"top/a.go": doc + "package p\nimport _ \"example.com/heavy/sub\""}, want: []string{"top/a.go:3: wall: imports example.com/heavy/sub, which is behind a wall: only there"}},
		{name: "inside the wall", files: map[string]string{"mid/a.go": doc + "package p\nimport _ \"example.com/heavy/sub\""}},
		{name: "the longest wall decides", files: map[string]string{"top/a.go": doc + "package p\nimport _ \"example.com/heavy/own\""}},
		{name: "another name is no wall", files: map[string]string{"top/a.go": doc + "package p\nimport _ \"example.com/heavyweight\""}},
		{name: "wall of our own", files: map[string]string{"mid/a.go": doc + "package p\nimport _ \"m/internal/secret\""}, want: []string{"mid/a.go:3: wall: "}},
		{
			name: "pure", files: map[string]string{"mid/pure/a.go": doc + "package p\nimport _ \"os\"\nimport _ \"net/netip\"\nimport _ \"example.com/log/x\""},
			want: []string{"mid/pure/a.go:3: pure: imports os", "mid/pure/a.go:5: pure: imports example.com/log/x"},
		},
		{name: "init", files: map[string]string{"mid/a.go": doc + "package p\nfunc init() {}"}, want: []string{"mid/a.go:3: init: "}},
		{name: "init exempt", files: map[string]string{"mid/x/a.go": doc + "package p\nfunc init() {}"}},
		{name: "a method init is none", files: map[string]string{"mid/a.go": doc + "package p\ntype t int\nfunc (t) init() {}"}},
		{
			name: "exit", files: map[string]string{"mid/a.go": doc + "package p\nimport (\n\"log\"\nsys \"os\"\n)\nfunc f() {\nsys.Exit(1)\nlog.Fatalln()\n}"},
			want: []string{"mid/a.go:8: exit: calls os.Exit", "mid/a.go:9: exit: calls log.Fatalln"},
		},
		{name: "exit exempt", files: map[string]string{"cmd/a/a.go": doc + "package p\nimport \"os\"\nfunc f() { os.Exit(1) }"}},
		{name: "panic", files: map[string]string{"mid/a.go": doc + "package p\nfunc f() { panic(1) }"}, want: []string{"mid/a.go:3: panic: "}},
		{name: "a function named panic is none", files: map[string]string{"mid/a.go": doc + "package p\nfunc f(panic func(int)) { panic(1) }"}},
		{
			name: "goroutine", files: map[string]string{"mid/a.go": doc + "package p\nvar x = func() int { go f(); return 1 }()\nfunc f() { go f() }"},
			want: []string{"mid/a.go:3: global-goroutine: "},
		},
		{
			name: "state", files: map[string]string{"mid/a.go": doc + "package p\nvar n int\nvar m = map[string]int{}", "mid/b.go": "package p\nfunc f() {\nn++\nm[\"a\"] = 1\nn := 1\nn = 2\n_ = n\n}"},
			want: []string{"mid/b.go:3: global-state: assigns to the package variable n", "mid/b.go:4: global-state: assigns to the package variable m"},
		},
		{
			name:  "state by type",
			files: map[string]string{"mid/a.go": doc + "package p\nimport (\n\"sync\"\n\"sync/atomic\"\n\"errors\"\n)\nvar mu sync.Mutex\nvar p = &sync.Pool{}\nvar g = &sync.WaitGroup{}\nvar a atomic.Pointer[int]\nvar err = errors.New(\"x\")"},
			want:  []string{"mid/a.go:8: global-state: ", "mid/a.go:10: global-state: ", "mid/a.go:11: global-state: "},
		},
		{name: "setter", files: map[string]string{"mid/a.go": doc + "package p\nimport \"log/slog\"\nfunc f() { slog.SetDefault(nil) }"}, want: []string{"mid/a.go:4: global-setter: calls log/slog.SetDefault"}},
		{
			name: "grpc registry", files: map[string]string{"mid/a.go": doc + "package p\nimport \"google.golang.org/grpc/resolver\"\nfunc f() { resolver.Register(nil) }"},
			want: []string{"mid/a.go:4: grpc-registry: "},
		},
		{name: "generated", files: map[string]string{"mid/a.go": "// Code generated by x. DO NOT EDIT.\n\n" + doc + "package p\nfunc init() {}"}},
		{name: "nothing but generated needs no doc", files: map[string]string{"mid/a.go": "// Code generated by x. DO NOT EDIT.\n\npackage p"}},
		{name: "no doc", files: map[string]string{"mid/a.go": "package p", "mid/b.go": "package p"}, want: []string{"mid: no-package-doc: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			tt.files["go.mod"] = "module m\n"
			for name, content := range tt.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			found, err := Check(root, rules)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]bool)
			for _, v := range found {
				got[v.String()] = true
			}
			for _, want := range tt.want {
				hit := false
				for g := range got {
					if strings.HasPrefix(g, want) {
						delete(got, g)
						hit = true
					}
				}
				if !hit {
					t.Errorf("not found: %s", want)
				}
			}
			for g := range got {
				t.Errorf("found, but is allowed: %s", g)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	fence := func(s string) string { return "```floors\n" + s + "\n```" }
	tests := []struct{ name, document, want string }{
		{"no block", "nothing", "no block begins"},
		{"unknown rule", fence("hope all"), `line 2: unknown rule "hope"`},
		{"nothing after", fence("floor"), "nothing after it"},
		{"no number", fence("floor one a"), "number of the floor"},
		{"wall without a reason", fence("wall a = b"), "needs a reason"},
		{"wall without a side", fence("wall a b # why"), "want wall"},
		{"allow without a side", fence("allow a b # why"), "want allow"},
		{"pure without a side", fence("pure a b # why"), "want pure"},
		{"exemption without a reason", fence("forbid init in a"), "needs a reason"},
		{"unknown kind", fence("forbid fun"), "want forbid KIND"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse(tt.document); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add("```floors\nwall = # x\nforbid in\npure : :\nallow -> # \n```")
	f.Fuzz(func(t *testing.T, document string) {
		r, err := Parse(document)
		if (r == nil) == (err == nil) {
			t.Fatalf("rules %v with error %v", r, err)
		}
		if r != nil {
			r.arrowError("a", "b")
		}
	})
}
