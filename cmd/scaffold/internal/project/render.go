package project

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"plinth.internal/cmd/scaffold/internal/protogen"
	"plinth.internal/templates"
)

// File is one file of a new service.
type File struct {
	Path      string // slash-separated, relative to the service
	Content   []byte
	Generated bool // written by a tool again and again (.pb.go, go.sum), never by hand
}

// How the version and the hash of a released framework stand in go.sum.tmpl. A service that builds with a checkout has no such lines.
const (
	PlaceholderVersion = "RELEASE_VERSION"
	PlaceholderSum     = "RELEASE_SUM"
)

// Render returns the files of a service in order of path. It is a pure function of its arguments: no clock, no network, no disk.
func Render(ctx context.Context, name, module string, callee Callee, framework Framework) ([]File, error) {
	sources, err := merged(callee)
	if err != nil {
		return nil, err
	}
	spelled := replacer(name, module, callee)
	content := make(map[string][]byte, len(sources))
	for source, text := range sources {
		target := targetPath(spelled.Replace(source))
		b := []byte(spelled.Replace(text))
		switch {
		case target == "go.mod":
			b, err = goMod(b, callee, framework)
		case target == "go.sum":
			b = goSum(b, framework)
		case path.Ext(target) == ".go":
			// A longer or shorter name moves columns and the order of imports.
			b, err = format.Source(b)
		}
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", target, err)
		}
		content[target] = b
	}
	if err := messages(ctx, content); err != nil {
		return nil, err
	}
	files := make([]File, 0, len(content))
	for _, p := range slices.Sorted(maps.Keys(content)) {
		files = append(files, File{Path: p, Content: content[p], Generated: p == "go.sum" || strings.HasSuffix(p, ".pb.go")})
	}
	return files, nil
}

// merged reads the template: the service, and over it the files of a caller when there is a callee.
func merged(callee Callee) (map[string]string, error) {
	trees := []fs.FS{templates.Service()}
	if callee != (Callee{}) {
		trees = append(trees, templates.Caller())
	}
	files := make(map[string]string)
	for _, tree := range trees {
		err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := fs.ReadFile(tree, name)
			files[name] = string(b)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the template: %w", err)
		}
	}
	return files, nil
}

// replacer puts the names in. The import paths come first because they contain a spelling.
func replacer(name, module string, callee Callee) *strings.Replacer {
	own := spell(name)
	pairs := []string{templates.ServicePath, module, templates.CallerPath, module}
	if callee != (Callee{}) {
		pairs = append(pairs, templates.CalleePath, callee.Module)
	}
	pairs = append(pairs, "your-service", own.kebab, "yourservice", own.packed, "YourService", own.pascal, "yourService", own.camel)
	if callee != (Callee{}) {
		their := spell(callee.Name)
		pairs = append(pairs, "their-service", their.kebab, "theirservice", their.packed, "TheirService", their.pascal, "theirService", their.camel)
	}
	return strings.NewReplacer(pairs...)
}

// targetPath undoes the names that templates have so that they can be embedded: dot_github/x becomes .github/x, go.mod.tmpl go.mod.
func targetPath(source string) string {
	elements := strings.Split(strings.TrimSuffix(source, ".tmpl"), "/")
	for i, e := range elements {
		if rest, ok := strings.CutPrefix(e, "dot_"); ok {
			elements[i] = "." + rest
		}
	}
	return path.Join(elements...)
}

// goMod adds what depends on the answers: the framework, and the callee.
func goMod(b []byte, callee Callee, framework Framework) ([]byte, error) {
	f, err := modfile.Parse("go.mod", b, nil)
	if err != nil {
		return nil, err
	}
	const local = "v0.0.0" // what a replaced module is required at: the replace line decides
	version := framework.Version
	if framework.Dir != "" {
		version = local
		if err := f.AddReplace(FrameworkModule, "", framework.Dir, ""); err != nil {
			return nil, err
		}
	}
	if err := f.AddRequire(FrameworkModule, version); err != nil {
		return nil, err
	}
	if callee.Dir != "" {
		if err := f.AddRequire(callee.Module, local); err != nil {
			return nil, err
		}
		if err := f.AddReplace(callee.Module, "", callee.Dir, ""); err != nil {
			return nil, err
		}
	}
	return FormatModule(f)
}

// FormatModule prints the module line, go line, requirements, tools and replacements of a go.mod as the go command writes a new one: the
// requirements in two sorted blocks, the direct ones first.
func FormatModule(f *modfile.File) ([]byte, error) {
	out := new(modfile.File)
	if err := errors.Join(out.AddModuleStmt(f.Module.Mod.Path), out.AddGoStmt(f.Go.Version)); err != nil {
		return nil, err
	}
	out.SetRequireSeparateIndirect(f.Require)
	for _, t := range f.Tool {
		if err := out.AddTool(t.Path); err != nil {
			return nil, err
		}
	}
	for _, r := range f.Replace {
		if err := out.AddReplace(r.Old.Path, r.Old.Version, r.New.Path, r.New.Version); err != nil {
			return nil, err
		}
	}
	out.SortBlocks()
	out.Cleanup()
	return out.Format()
}

// goSum puts in the hashes of a released framework; a replaced one has none.
func goSum(b []byte, framework Framework) []byte {
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, PlaceholderVersion) {
			if framework.Dir != "" {
				continue
			}
			line = strings.NewReplacer(PlaceholderVersion, framework.Version, PlaceholderSum, framework.Sum).Replace(line)
		}
		lines = append(lines, line)
	}
	return []byte(strings.Join(lines, ""))
}

// messages generates the .pb.go files anew: each carries its file's descriptor in binary, with lengths, where text cannot be replaced.
func messages(ctx context.Context, content map[string][]byte) error {
	var names []string
	for p := range content {
		if path.Ext(p) == ".proto" {
			names = append(names, p)
		}
	}
	request, err := protogen.Compile(ctx, protogen.Sources(content), names)
	if err != nil {
		return fmt.Errorf("compile the service's API: %w", err)
	}
	files, err := request.Messages()
	if err != nil {
		return fmt.Errorf("generate the service's API: %w", err)
	}
	for _, f := range files {
		content[f.Name] = f.Content
	}
	return nil
}
