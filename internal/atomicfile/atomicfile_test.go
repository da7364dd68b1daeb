package atomicfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plinth.internal/internal/atomicfile"
)

func TestWrite(t *testing.T) {
	for name, write := range map[string]func(string, []byte) error{"Write": atomicfile.Write, "WriteDurable": atomicfile.WriteDurable} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "list.json")
			for _, content := range []string{"the first one, which is longer", "the second", ""} {
				if err := write(path, []byte(content)); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != content {
					t.Fatalf("it holds %q (%v), want %q", got, err, content)
				}
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("its mode is %v (%v), want that only the owner reads it", info.Mode(), err)
			}
			only(t, dir, "list.json")
		})
	}
}

// TestWriteFails: nothing half-made is left where the file cannot be replaced.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := atomicfile.Write(filepath.Join(dir, "none", "x"), nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("without the directory: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.WriteDurable(taken, []byte("x")); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("in place of a directory: %v", err)
	}
	only(t, dir, "taken")
}

func only(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the directory holds %v (%v), want only %s", entries, err, name)
	}
}
