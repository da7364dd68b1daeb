package protogen

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// Module is a Go module on disk, and the root that the names of its .proto files are relative to.
type Module struct {
	Dir  string // absolute
	Path string // module path, as in go.mod
}

// ErrNoModule says that no go.mod was found in a directory or above it.
var ErrNoModule = errors.New("no go.mod in this directory or above it")

// ErrNotProto says that a path is a file, but no .proto file.
var ErrNotProto = errors.New("neither a directory nor a .proto file")

// FindModule returns the module that dir is in: the nearest go.mod upwards.
func FindModule(dir string) (Module, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return Module{}, fmt.Errorf("find the module of %s: %w", dir, err)
	}
	for at := start; ; at = filepath.Dir(at) {
		b, err := os.ReadFile(filepath.Join(at, "go.mod"))
		switch {
		case err == nil:
			return Module{Dir: at, Path: modfile.ModulePath(b)}, nil
		case !errors.Is(err, fs.ErrNotExist):
			return Module{}, fmt.Errorf("find the module of %s: %w", dir, err)
		case at == filepath.Dir(at):
			return Module{}, fmt.Errorf("find the module of %s: %w", dir, ErrNoModule)
		}
	}
}

// Open reads a file of the module; see [Open]. Names that lead out of the module are not found.
func (m Module) Open(name string) (io.ReadCloser, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return os.Open(filepath.Join(m.Dir, filepath.FromSlash(name)))
}

// ErrOutside says that a path is not within the module.
var ErrOutside = errors.New("not within the module")

// Name returns the slash-separated name, relative to the module root, of a file or directory at path ("." for the root itself).
func (m Module) Name(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("name %s: %w", path, err)
	}
	rel, err := filepath.Rel(m.Dir, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("name %s: %w %s", path, ErrOutside, m.Dir)
	}
	return filepath.ToSlash(rel), nil
}

// Protos lists the .proto files at the given paths, each a file or a directory to walk, as sorted names without duplicates. Directories
// that the go command leaves out (vendor, testdata, names that begin with . or _, other modules) are left out too.
func (m Module) Protos(paths []string) ([]string, error) {
	var names []string
	for _, path := range paths {
		name, err := m.Name(path)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("look for .proto files: %w", err)
		}
		if !info.IsDir() {
			if !strings.HasSuffix(name, ".proto") {
				return nil, fmt.Errorf("%w: %s", ErrNotProto, path)
			}
			names = append(names, name)
			continue
		}
		found, err := m.walk(name)
		if err != nil {
			return nil, fmt.Errorf("look for .proto files: %w", err)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (m Module) walk(root string) (names []string, err error) {
	err = fs.WalkDir(os.DirFS(m.Dir), root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			if strings.HasSuffix(name, ".proto") {
				names = append(names, name)
			}
			return nil
		}
		if name == root {
			return nil
		}
		if base := d.Name(); base == "vendor" || base == "testdata" || base[0] == '.' || base[0] == '_' {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(m.Dir, filepath.FromSlash(name), "go.mod")); err == nil {
			return fs.SkipDir
		}
		return nil
	})
	return names, err
}
