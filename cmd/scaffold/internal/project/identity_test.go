package project

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"plinth.internal/templates"
)

// TestIdentity renders the template under its own names: the result is the template, so that what compiles and is tested there is what users get.
func TestIdentity(t *testing.T) {
	files, err := Render(t.Context(), "your-service", templates.ServicePath, Callee{}, release)
	if err != nil {
		t.Fatal(err)
	}
	rendered := make(map[string][]byte, len(files))
	for _, f := range files {
		rendered[f.Path] = f.Content
	}
	err = fs.WalkDir(templates.Service(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		target := targetPath(name)
		got, ok := rendered[target]
		delete(rendered, target)
		if !ok {
			t.Errorf("%s is not rendered", name)
			return nil
		}
		if strings.HasSuffix(name, ".tmpl") {
			return nil // go.mod and go.sum depend on the framework: see TestGoldenTree
		}
		want, err := fs.ReadFile(templates.Service(), name)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is rendered as something else", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range rendered {
		t.Errorf("%s comes from nowhere", name)
	}
}

// TestCallerReplaces holds the files of the caller to be ones that the service has: a file of another name would be left over in one variant.
func TestCallerReplaces(t *testing.T) {
	err := fs.WalkDir(templates.Caller(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		_, err = fs.Stat(templates.Service(), name)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
