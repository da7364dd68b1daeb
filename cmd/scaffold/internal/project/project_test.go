package project

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

var release = Framework{Version: "v0.1.0", Sum: "h1:c29tZXRoaW5nIHRoYXQgaXMgMzIgYnl0ZXMgbG9uZyE="}

var answers = []struct {
	name, service, module string
	callee                Callee
	framework             Framework
}{
	{"plain", "orders", "github.com/acme/orders", Callee{}, release},
	{"two words", "order-api", "github.com/acme/orders", Callee{}, Framework{Dir: "/src/with space/plinth"}},
	{"caller", "orders", "demo.plinth.internal/orders", Callee{"billing", "demo.plinth.internal/billing", "../billing"}, Framework{Dir: "/src/plinth"}},
	{"caller of a fetched module", "orders", "github.com/acme/orders", Callee{"billing", "github.com/acme/billing", ""}, release},
	{"keyword", "range", "range", Callee{"type", "type", "../type"}, release},
	{"predeclared", "string", "string", Callee{}, release},
	{"digits", "a-1b2c", "a1", Callee{}, release},
	{"the placeholder itself", "your-service", "your-service", Callee{}, release},
}

func TestRender(t *testing.T) {
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			files, err := Render(t.Context(), tt.service, tt.module, tt.callee, tt.framework)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Render(t.Context(), tt.service, tt.module, tt.callee, tt.framework)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(files, again, func(a, b File) bool { return a.Path == b.Path && bytes.Equal(a.Content, b.Content) }) {
				t.Error("rendered twice, the bytes differ")
			}
			if len(files) >= 40 {
				t.Errorf("%d files, want fewer than 40", len(files))
			}
			for _, f := range files {
				if strings.HasSuffix(f.Path, ".go") {
					if _, err := parser.ParseFile(token.NewFileSet(), f.Path, f.Content, parser.SkipObjectResolution); err != nil {
						t.Error(err)
					}
				}
				for _, left := range []string{"yourservice", "YourService", "yourService", "your-service", "theirservice", "TheirService", "their-service", "plinth.internal/templates", "RELEASE_"} {
					if tt.service != "your-service" && bytes.Contains(f.Content, []byte(left)) || strings.Contains(f.Path, "theirservice") {
						t.Errorf("%s still has %s in it", f.Path, left)
					}
				}
			}
		})
	}
}

// TestGoldenTree pins which files a service has, and what its go.mod begins with.
func TestGoldenTree(t *testing.T) {
	var got strings.Builder
	for _, tt := range answers[:4] {
		files, err := Render(t.Context(), tt.service, tt.module, tt.callee, tt.framework)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("-- " + tt.name + " --\n")
		for _, f := range files {
			got.WriteString(f.Path + "\n")
			if f.Path == "go.mod" {
				for line := range strings.Lines(string(f.Content)) {
					if !strings.Contains(line, "// indirect") {
						got.WriteString("    " + line)
					}
				}
			}
			if f.Path == "go.sum" {
				for line := range strings.Lines(string(f.Content)) {
					if strings.HasPrefix(line, FrameworkModule) && !strings.Contains(line, "/go.mod") {
						got.WriteString("    " + line)
					}
				}
			}
		}
	}
	golden := filepath.Join("testdata", "tree.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the tree is another one; go test -update writes it\n%s", got.String())
	}
}

// checkout returns this repository, for replace lines.
func checkout(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		names = append(names, strings.TrimPrefix(path, dir+string(filepath.Separator)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNew(t *testing.T) {
	base := t.TempDir()
	empty := filepath.Join(base, "empty")
	if err := os.Mkdir(empty, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"into a new directory": filepath.Join(base, "a", "b", "orders"), "into an empty one": empty} {
		t.Run(name, func(t *testing.T) {
			before, statErr := os.Stat(dir)
			r, err := New(t.Context(), Options{Name: "orders", Dir: dir, Framework: checkout(t), NoGit: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Files {
				b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
				if err != nil || !bytes.Equal(b, f.Content) {
					t.Errorf("%s is not what was rendered: %v", f.Path, err)
				}
			}
			after, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if statErr == nil && !os.SameFile(before, after) {
				t.Error("the empty directory was replaced by another one")
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".scaffold-*")); left != nil {
				t.Errorf("left behind: %v", left)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".scaffold-*")); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestNewLeavesNothing(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stop"))
	full := t.TempDir()
	for _, name := range []string{"x", "y", "z"} {
		if err := os.WriteFile(filepath.Join(full, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		ctx  context.Context
		o    Options
		want string
	}{
		{"bad name", t.Context(), Options{Name: "1bad"}, `"1bad" cannot be a service name`},
		{"bad module", t.Context(), Options{Name: "log"}, "belongs to the standard library"},
		{"calls itself", t.Context(), Options{Name: "orders", Callee: Callee{Name: "orders", Module: "x"}}, "cannot call itself"},
		{"not empty", t.Context(), Options{Name: "orders", Dir: full}, "is not empty (x, y and 1 more)"},
		{"no framework", t.Context(), Options{Name: "orders", Framework: full}, "no framework to build with"},
		{"interrupted", interrupted, Options{Name: "orders"}, "stop"},
		{"dry run", t.Context(), Options{Name: "orders", DryRun: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			if tt.o.Dir == "" {
				tt.o.Dir = filepath.Join(base, "deep", "er")
			}
			if tt.o.Framework == "" {
				tt.o.Framework = checkout(t)
			}
			_, err := New(tt.ctx, tt.o)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if left := tree(t, base); left != nil {
				t.Errorf("left behind: %v", left)
			}
			if now := tree(t, full); len(now) != 3 {
				t.Errorf("the full directory now has %v", now)
			}
		})
	}
}

// TestNewIntoAFile covers an error of the file system in the middle.
func TestNewIntoAFile(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Options{Name: "orders", Dir: filepath.Join(file, "orders"), Framework: checkout(t)}); err == nil {
		t.Error("a file was taken for a directory")
	}
	if left := tree(t, base); !slices.Equal(left, []string{"file"}) {
		t.Errorf("left behind: %v", left)
	}
}

func TestFirstCommit(t *testing.T) {
	if _, err := git(t.Context(), t.TempDir(), "--version"); err != nil {
		t.Skip("git is not installed")
	}
	// A machine of its own: what the developer has configured must not decide.
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_DIR", filepath.Join(t.TempDir(), "elsewhere")) // as inside a git hook
	t.Setenv("EMAIL", "")

	t.Run("no identity", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "orders")
		t.Setenv("GIT_CONFIG_COUNT", "1") // else git may make one up from the host's name
		t.Setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
		t.Setenv("GIT_CONFIG_VALUE_0", "true")
		r, err := New(t.Context(), Options{Name: "orders", Dir: dir, Framework: checkout(t)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Commit != "" || !strings.Contains(r.GitNote, "repository without a commit") {
			t.Errorf("commit %q, note %q", r.Commit, r.GitNote)
		}
	})

	for _, v := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(v, "a@example.com")
	}
	dir := filepath.Join(t.TempDir(), "orders")
	r, err := New(t.Context(), Options{Name: "orders", Dir: dir, Framework: checkout(t)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Commit == "" || r.GitNote != "" {
		t.Errorf("commit %q, note %q", r.Commit, r.GitNote)
	}
	if out, err := git(t.Context(), dir, "status", "--porcelain", "--ignored"); err != nil || out != "" {
		t.Errorf("status after the commit: %q, %v", out, err)
	}

	inside, err := New(t.Context(), Options{Name: "orders", Dir: filepath.Join(dir, "sub"), Framework: checkout(t)})
	if err != nil {
		t.Fatal(err)
	}
	if inside.Commit != "" || inside.GitNote != "already inside a git work tree" {
		t.Errorf("commit %q, note %q", inside.Commit, inside.GitNote)
	}
}
