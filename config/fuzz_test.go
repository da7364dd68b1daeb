package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plinth.internal/config"
)

// FuzzLoad reads a file, a variable and a flag into a struct. Whatever they
// hold, nothing hangs or panics, and what was given is either bound, or an
// error, or reported as unused.
func FuzzLoad(f *testing.F) {
	for _, file := range []string{
		"", "app:\n  name: x\n  names: [a, b]\n", "app: {wait: 2s, level: high}\nstatic:\n  a.b: [c]\n",
		"clients:\n  a: &a {timeout: 1s}\n  b: *a\n", "a: &a {b: *a}\n", "? [x]\n: y\n", "<<: {a: b}\n", "a: !!binary aGk=\n",
		"app.name: x\napp:\n  name: y\n", "---\na: 1\n---\nb: 2\n", "app:\n\t- x", "\xef\xbb\xbfapp: 1\n", "a: |\n  b\n", "%YAML 9\n---\n",
	} {
		f.Add(file, "PLINTH_APP_COUNT=1", "app.on=true")
		f.Add(file, "PLINTH_CLIENTS_PRICE_LIST_TIMEOUT=1s", "clients.x.methods.Get.timeout=1s")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, env, flag string) {
		path := filepath.Join(dir, "app.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.WithFile(path, true), config.WithEnviron([]string{env}), config.WithFlags([]string{flag}))
		if err != nil {
			return
		}
		e, err := config.Bind(c, "", defaults())
		if err != nil {
			return
		}
		unused := c.Unused()
		if key, value, ok := strings.Cut(flag, "="); ok {
			switch told := unused != nil && strings.Contains(unused.Error(), "--"+key); {
			case key == "app.name" && e.App.Name != value:
				t.Errorf("--%s is %q", flag, e.App.Name)
			case !told && !known(c, key):
				t.Errorf("--%s is neither bound nor reported: %v", flag, unused)
			}
		}
	})
}

// known reports whether a key was bound.
func known(c *config.Config, key string) bool {
	for _, e := range c.Entries() {
		if e.Key == key {
			return true
		}
	}
	return false
}
