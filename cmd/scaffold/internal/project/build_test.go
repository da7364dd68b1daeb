package project

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBuilds makes services and holds them to what is promised: nothing to tidy, formatted, vetted, built, and their own tests pass.
func TestBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("builds whole services")
	}
	base := t.TempDir()
	for _, o := range []Options{
		{Name: "billing", Module: "demo.plinth.internal/billing", Dir: filepath.Join(base, "billing")},
		{
			Name: "orders", Module: "demo.plinth.internal/orders", Dir: filepath.Join(base, "orders"),
			Callee: Callee{Name: "billing", Module: "demo.plinth.internal/billing", Dir: "../billing"},
		},
		{Name: "range", Dir: filepath.Join(base, "range")},
		{Name: "a-1b", Dir: filepath.Join(base, "a-1b"), Callee: Callee{Name: "range", Module: "range", Dir: "../range"}},
	} {
		o.NoGit, o.Framework = true, checkout(t)
		t.Run(o.Name, func(t *testing.T) {
			if _, err := New(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if out := run(t, o.Dir, "gofmt", "-l", "."); out != "" {
				t.Errorf("not formatted: %s", out)
			}
			run(t, o.Dir, "go", "mod", "tidy", "-diff")
			run(t, o.Dir, "go", "vet", "./...")
			run(t, o.Dir, "go", "test", "./...")
			run(t, o.Dir, "go", "build", "-o", filepath.Join(base, "bin")+string(filepath.Separator), "./...")
			run(t, o.Dir, filepath.Join(base, "bin", o.Name), "--version")
		})
	}
}

func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out.String())
	}
	return out.String()
}
