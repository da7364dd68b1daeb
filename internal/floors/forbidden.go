package floors

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// kinds are what a table may forbid.
var kinds = []string{"init", "exit", "panic", "global-goroutine", "global-state", "global-setter", "grpc-registry", "no-package-doc"}

// calls that are forbidden, by kind and import path. A name that ends in * stands for all that begin so.
var calls = []struct {
	kind, path string
	names      []string
}{
	{"exit", "os", []string{"Exit"}},
	{"exit", "syscall", []string{"Exit"}},
	{"exit", "log", []string{"Fatal*"}},
	{"panic", "log", []string{"Panic*"}},
	{"global-setter", "log", []string{"Set*"}},
	{"global-setter", "log/slog", []string{"SetDefault", "SetLogLoggerLevel"}},
	{"global-setter", "os", []string{"Setenv", "Unsetenv", "Clearenv", "Chdir"}},
	{"global-setter", "net/http", []string{"Handle", "HandleFunc"}},
	{"global-setter", "runtime/debug", []string{"Set*"}},
	{"global-setter", "go.opentelemetry.io/otel", []string{"Set*"}},
	{"global-setter", "go.opentelemetry.io/otel/log/global", []string{"Set*"}},
	{"global-setter", "go.uber.org/zap", []string{"ReplaceGlobals", "RedirectStdLog*"}},
	{"global-setter", "google.golang.org/grpc/grpclog", []string{"SetLogger*"}},
	{"global-setter", "github.com/prometheus/client_golang/prometheus", []string{"MustRegister", "Register", "Unregister"}},
	{"grpc-registry", "google.golang.org/grpc/balancer", []string{"Register"}},
	{"grpc-registry", "google.golang.org/grpc/resolver", []string{"Register", "SetDefaultScheme"}},
	{"grpc-registry", "google.golang.org/grpc/encoding", []string{"Register*"}},
}

// checkCode finds what is forbidden in the functions and variables of a package.
func (c *checker) checkCode(p pkg) {
	info := resolve(p, c.set)
	for _, f := range p.files {
		if ast.IsGenerated(f) {
			continue
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					c.forbidden(p, d.Pos(), "init", "func init runs because a package is imported; do it in a constructor")
					c.goroutines(p, d)
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					c.goroutines(p, d)
					c.variables(p, f, d)
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				c.call(p, f, info, n)
			case *ast.AssignStmt:
				for _, left := range n.Lhs {
					c.assigned(p, info, left)
				}
			case *ast.IncDecStmt:
				c.assigned(p, info, n.X)
			}
			return true
		})
	}
}

// forbidden reports a finding unless the package is exempt.
func (c *checker) forbidden(p pkg, pos token.Pos, kind, problem string) {
	if c.forbids(kind, p.path) {
		c.reportAt(pos, kind, problem)
	}
}

// resolve finds out which names mean which objects, as far as that can be said from the package alone. What it imports is unknown to it, and
// the errors that follow from that are of no interest.
func resolve(p pkg, set *token.FileSet) *types.Info {
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{
		Importer: unknownImports{}, FakeImportC: true, DisableUnusedImportCheck: true,
		Error: func(error) {},
	}
	_, _ = config.Check(p.path, set, p.files, info)
	return info
}

// unknownImports gives an empty package for every import.
type unknownImports struct{}

func (unknownImports) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
	p.MarkComplete()
	return p, nil
}

func (c *checker) call(p pkg, f *ast.File, info *types.Info, call *ast.CallExpr) {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		if _, builtin := info.Uses[fun].(*types.Builtin); builtin && fun.Name == "panic" {
			c.forbidden(p, call.Pos(), "panic", "library code returns errors")
		}
	case *ast.SelectorExpr:
		for _, rule := range calls {
			if selects(f, fun, rule.path) && slices.ContainsFunc(rule.names, func(n string) bool { return nameMatches(n, fun.Sel.Name) }) {
				c.forbidden(p, call.Pos(), rule.kind, fmt.Sprintf("calls %s.%s", rule.path, fun.Sel.Name))
			}
		}
	}
}

func nameMatches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// selects reports whether an expression names something of the package with that import path.
func selects(f *ast.File, e *ast.SelectorExpr, path string) bool {
	x, ok := e.X.(*ast.Ident)
	if !ok {
		return false
	}
	for _, spec := range f.Imports {
		have, err := strconv.Unquote(spec.Path.Value)
		if err != nil || have != path {
			continue
		}
		name := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == x.Name {
			return true
		}
	}
	return false
}

func (c *checker) goroutines(p pkg, n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			c.forbidden(p, g.Pos(), "global-goroutine", "a goroutine starts because a package is imported; start it in a constructor")
		}
		return true
	})
}

// assigned reports an assignment to a package variable, or to a part of one.
func (c *checker) assigned(p pkg, info *types.Info, target ast.Expr) {
	for {
		switch t := target.(type) {
		case *ast.SelectorExpr:
			target = t.X
			continue
		case *ast.IndexExpr:
			target = t.X
			continue
		case *ast.StarExpr:
			target = t.X
			continue
		case *ast.ParenExpr:
			target = t.X
			continue
		case *ast.Ident:
			v, ok := info.Uses[t].(*types.Var)
			if ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				c.forbidden(p, t.Pos(), "global-state", "assigns to the package variable "+t.Name)
			}
		}
		return
	}
}

// variables reports package variables that only make sense when they change.
func (c *checker) variables(p pkg, f *ast.File, d *ast.GenDecl) {
	for _, s := range d.Specs {
		spec, ok := s.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, name := range spec.Names {
			kind := spec.Type
			if kind == nil && i < len(spec.Values) {
				kind = literalType(spec.Values[i])
			}
			if changes(f, kind) {
				c.forbidden(p, name.Pos(), "global-state", "the package variable "+name.Name+" is a lock, a channel or an atomic")
			}
		}
	}
}

// literalType returns the type of a composite literal, or of a pointer to one.
func literalType(e ast.Expr) ast.Expr {
	if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND {
		e = u.X
	}
	if l, ok := e.(*ast.CompositeLit); ok {
		return l.Type
	}
	return nil
}

func changes(f *ast.File, kind ast.Expr) bool {
	switch k := kind.(type) {
	case *ast.StarExpr:
		return changes(f, k.X)
	case *ast.IndexExpr:
		return changes(f, k.X)
	case *ast.ChanType:
		return true
	case *ast.SelectorExpr:
		return selects(f, k, "sync") && k.Sel.Name != "Pool" || selects(f, k, "sync/atomic")
	}
	return false
}
