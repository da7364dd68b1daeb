package floors

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Violation is one place that breaks a rule.
type Violation struct {
	Place   string // file:line relative to the root, or the package
	Kind    string // floor, wall, pure, std, or a kind that is forbidden
	Problem string
}

// String returns place, kind and problem on one line.
func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Place, v.Kind, v.Problem) }

var modulePath = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)`)

// Check returns everything in the module at root that breaks the rules, in order of place. The error is about reading or parsing the source.
func Check(root string, r *Rules) ([]Violation, error) {
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("check the floors: %w", err)
	}
	m := modulePath.FindSubmatch(b)
	if m == nil {
		return nil, fmt.Errorf("check the floors: %s has no module line", filepath.Join(root, "go.mod"))
	}
	c := &checker{rules: r, module: string(m[1]), set: token.NewFileSet()}
	packages, err := c.load(root)
	if err != nil {
		return nil, fmt.Errorf("check the floors: %w", err)
	}
	for _, p := range packages {
		c.check(p)
	}
	slices.SortFunc(c.found, func(a, b Violation) int {
		return cmp.Or(strings.Compare(a.Place, b.Place), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(c.found), nil
}

type checker struct {
	rules  *Rules
	module string
	set    *token.FileSet
	found  []Violation
}

// pkg is the non-test files of one directory.
type pkg struct {
	path  string // relative to the module; "." for the root
	files []*ast.File
}

func (c *checker) load(root string) ([]pkg, error) {
	byDir := make(map[string]*pkg)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && leaveOut(root, name) {
				return fs.SkipDir
			}
			return nil
		}
		base := d.Name()
		if path.Ext(base) != ".go" || strings.HasSuffix(base, "_test.go") || base[0] == '.' || base[0] == '_' {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(c.set, name, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{path: dir}
		}
		byDir[dir].files = append(byDir[dir].files, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	packages := make([]pkg, 0, len(byDir))
	for _, p := range byDir {
		packages = append(packages, *p)
	}
	slices.SortFunc(packages, func(a, b pkg) int { return strings.Compare(a.path, b.path) })
	return packages, nil
}

// leaveOut reports whether the go command would not look into the directory, or would take it for another module.
func leaveOut(root, name string) bool {
	base := path.Base(name)
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return true
	}
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name), "go.mod"))
	return err == nil
}

func (c *checker) check(p pkg) {
	if _, ok := c.rules.floorOf(p.path); !ok {
		c.report(p.path, "floor", "the package is on no floor; add it to the table in docs/design.md")
	}
	for _, f := range p.files {
		for _, spec := range f.Imports {
			c.checkImport(p, spec)
		}
	}
	documented := func(f *ast.File) bool { return f.Doc.Text() != "" }
	written := func(f *ast.File) bool { return !ast.IsGenerated(f) }
	if c.forbids("no-package-doc", p.path) && slices.ContainsFunc(p.files, written) && !slices.ContainsFunc(p.files, documented) {
		c.report(p.path, "no-package-doc", "say what the package is and what it guarantees")
	}
	c.checkCode(p)
}

func (c *checker) checkImport(p pkg, spec *ast.ImportSpec) {
	full, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return // the parser has checked it
	}
	imported := full
	local := below(c.module, full)
	if local {
		imported = strings.TrimPrefix(strings.TrimPrefix(full, c.module), "/")
		if problem := c.rules.arrowError(p.path, imported); problem != "" {
			c.reportAt(spec.Pos(), "floor", problem)
		}
	}
	first, _, _ := strings.Cut(full, "/")
	if !local && strings.Contains(first, ".") && anyMatches(c.rules.std, p.path) {
		c.reportAt(spec.Pos(), "std", "imports "+full+", but may import the standard library only")
	}
	if w, ok := c.rules.wallOf(imported); ok && !below(w.path, p.path) && !anyMatches(w.inside, p.path) {
		c.reportAt(spec.Pos(), "wall", fmt.Sprintf("imports %s, which is behind a wall: %s", full, w.reason))
	}
	for _, rule := range c.rules.pure {
		if !anyMatches(rule.packages, p.path) {
			continue
		}
		for _, banned := range rule.imports {
			if banned == imported || strings.Contains(banned, ".") && below(banned, imported) {
				c.reportAt(spec.Pos(), "pure", fmt.Sprintf("imports %s, but is pure: %s", full, rule.reason))
			}
		}
	}
}

// forbids reports whether a kind is forbidden in a package.
func (c *checker) forbids(kind, pkg string) bool {
	exempt, listed := c.rules.forbid[kind]
	return listed && !anyMatches(exempt, pkg)
}

func (c *checker) report(place, kind, problem string) {
	c.found = append(c.found, Violation{place, kind, problem})
}

func (c *checker) reportAt(pos token.Pos, kind, problem string) {
	at := c.set.Position(pos)
	c.report(fmt.Sprintf("%s:%d", at.Filename, at.Line), kind, problem)
}
