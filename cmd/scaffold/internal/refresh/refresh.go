package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/sumdb/dirhash"

	"plinth.internal/cmd/scaffold/internal/project"
	"plinth.internal/cmd/scaffold/internal/protogen"
	"plinth.internal/templates"
)

// Trees, relative to the root of the repository.
const (
	serviceDir = "templates/service"
	callerDir  = "templates/caller"
	calleeDir  = "templates/callee"
)

// freshModule is the module that is made to be tidied: one path cannot be in two modules, so it is not the template's own.
const freshModule = "example.com/fresh"

// shared are the files of service that caller has a copy of, because a Go package has to be whole to compile.
var shared = []string{"internal/service/store.go"}

// refresh returns the names of the files, relative to root, whose content is not what it should be, and writes them when asked to.
func refresh(ctx context.Context, root string, write bool) (changed []string, err error) {
	root, err = filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	want := make(map[string][]byte)
	for _, step := range []func(context.Context, string, map[string][]byte) error{api, copies, goModule} {
		if err := step(ctx, root, want); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		path := filepath.Join(root, filepath.FromSlash(name))
		have, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return changed, err
		}
		if err == nil && bytes.Equal(have, want[name]) {
			continue
		}
		changed = append(changed, name)
		if !write {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, want[name], 0o666)); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// api generates the Go of the service's API and of the callee's.
func api(ctx context.Context, root string, want map[string][]byte) error {
	const proto = "api/yourservice/v1/yourservice.proto"
	own, err := os.ReadFile(filepath.Join(root, serviceDir, proto))
	if err != nil {
		return err
	}
	rename := strings.NewReplacer(serviceDir, calleeDir, "your-service", "their-service", "yourservice", "theirservice", "YourService", "TheirService", "yourService", "theirService")
	theirs := []byte(rename.Replace(string(own)))
	want[calleeDir+"/"+rename.Replace(proto)] = theirs

	plugin, err := protogen.FindPlugin(ctx, root)
	if err != nil {
		return err
	}
	for _, tree := range []struct {
		dir, proto string
		source     []byte
	}{{serviceDir, proto, own}, {calleeDir, rename.Replace(proto), theirs}} {
		request, err := protogen.Compile(ctx, protogen.Sources(map[string][]byte{tree.proto: tree.source}), []string{tree.proto})
		if err != nil {
			return err
		}
		messages, err := request.Messages()
		if err != nil {
			return err
		}
		services, err := request.Services(ctx, plugin)
		if err != nil {
			return err
		}
		for _, f := range slices.Concat(messages, services) {
			want[tree.dir+"/"+f.Name] = f.Content
		}
	}
	return nil
}

func copies(_ context.Context, root string, want map[string][]byte) error {
	for _, name := range shared {
		b, err := os.ReadFile(filepath.Join(root, serviceDir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		want[callerDir+"/"+name] = b
	}
	return nil
}

// goModule finds the requirements of a new service: it makes one that requires what the framework requires, and lets the go command tidy it.
func goModule(ctx context.Context, root string, want map[string][]byte) (err error) {
	rootMod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	rootSum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "scaffold-refresh-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyTree(filepath.Join(root, serviceDir), dir); err != nil {
		return err
	}
	mod, err := startingModule(rootMod, root)
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o666),
		os.WriteFile(filepath.Join(dir, "go.sum"), rootSum, 0o666),
	); err != nil {
		return err
	}
	tidy := exec.CommandContext(ctx, "go", "mod", "tidy")
	tidy.Dir = dir
	tidy.Env = append(os.Environ(), "GOWORK=off")
	if out, err := tidy.CombinedOutput(); err != nil {
		return fmt.Errorf("tidy the module of a new service: %s: %w", bytes.TrimSpace(out), err)
	}
	tidied, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	if want[serviceDir+"/go.mod.tmpl"], err = withoutFramework(tidied); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return err
	}
	want[serviceDir+"/go.sum.tmpl"], err = withFramework(sums, rootMod)
	return err
}

// copyTree copies the Go files of the template: only they decide what is required.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b = bytes.ReplaceAll(b, []byte(templates.ServicePath), []byte(freshModule))
		target := filepath.Join(to, rel)
		return errors.Join(os.MkdirAll(filepath.Dir(target), 0o777), os.WriteFile(target, b, 0o666))
	})
}

// startingModule is the go.mod before tidying: the versions of the root, so that the tests of a new service run what ours run.
func startingModule(rootMod []byte, root string) ([]byte, error) {
	f, err := modfile.Parse("go.mod", rootMod, nil)
	if err != nil {
		return nil, err
	}
	if err := f.AddModuleStmt(freshModule); err != nil {
		return nil, err
	}
	for _, t := range slices.Clone(f.Tool) {
		if t.Path != protogen.Plugin {
			if err := f.DropTool(t.Path); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(
		f.AddRequire(project.FrameworkModule, "v0.0.0"),
		f.AddReplace(project.FrameworkModule, "", root, ""),
	); err != nil {
		return nil, err
	}
	f.Cleanup()
	return f.Format()
}

// withoutFramework leaves out what `scaffold new` puts in by itself.
func withoutFramework(mod []byte) ([]byte, error) {
	f, err := modfile.Parse("go.mod", mod, nil)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		f.AddModuleStmt(templates.ServicePath),
		f.DropRequire(project.FrameworkModule),
		f.DropReplace(project.FrameworkModule, ""),
	); err != nil {
		return nil, err
	}
	f.Cleanup()
	return project.FormatModule(f)
}

// withFramework adds the lines of a released framework, at their place in the order. Its go.mod is this repository's, and so its hash is known
// here; the hash of the whole is known to a program that was built from the release.
func withFramework(sums, rootMod []byte) ([]byte, error) {
	hash, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(rootMod)), nil
	})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	line := fmt.Sprintf("%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", project.FrameworkModule, project.PlaceholderVersion, project.PlaceholderSum, hash)
	for have := range strings.Lines(string(sums)) {
		if line != "" && have > project.FrameworkModule {
			out.WriteString(line)
			line = ""
		}
		out.WriteString(have)
	}
	out.WriteString(line)
	return out.Bytes(), nil
}
