package project

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLocator(t *testing.T) {
	base := t.TempDir()
	checkout := func(name string) string {
		dir := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Join(dir, "deep", "er"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+FrameworkModule+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	a, b, c, d := checkout("a"), checkout("b"), checkout("c"), checkout("d")
	other := filepath.Join(base, "other")
	if err := os.MkdirAll(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module example.com/other\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(c, "deep", "x.go")
	working := filepath.Join(d, "deep", "er")

	tests := []struct {
		name string
		in   locator
		want Framework
		fail string
	}{
		{name: "flag first", in: locator{flag: a, env: b, released: true, version: "v1.0.0", source: source, working: working}, want: Framework{Dir: a}},
		{name: "then the environment", in: locator{env: b, released: true, version: "v1.0.0", source: source, working: working}, want: Framework{Dir: b}},
		{name: "then the release", in: locator{released: true, version: "v1.0.0", sum: "h1:x", source: source, working: working}, want: Framework{Version: "v1.0.0", Sum: "h1:x"}},
		{name: "then the source", in: locator{source: source, working: working}, want: Framework{Dir: c}},
		{name: "then the working directory", in: locator{source: "plinth.internal/cmd/x.go", working: working}, want: Framework{Dir: d}},
		{name: "source that is gone", in: locator{source: filepath.Join(base, "gone", "x.go"), working: working}, want: Framework{Dir: d}},
		{name: "none", in: locator{source: "plinth.internal/cmd/x.go", working: other}, fail: "not built from a release"},
		{name: "flag that is no checkout", in: locator{flag: other, env: b}, fail: "--framework="},
		{name: "environment that is no checkout", in: locator{env: filepath.Join(base, "nope")}, fail: FrameworkEnv + "="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.in.find()
			if tt.fail != "" {
				if !errors.Is(err, ErrNoFramework) || !strings.Contains(err.Error(), tt.fail) {
					t.Errorf("error %v, want one with %q", err, tt.fail)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestFindFrameworkHere(t *testing.T) {
	t.Setenv(FrameworkEnv, "")
	f, err := FindFramework("")
	if err != nil || !isCheckout(f.Dir) {
		t.Errorf("found %+v, %v; want this checkout", f, err)
	}
}
