// Package templates holds the services that `scaffold new` writes, as trees that compile, vet and test where they are.
//
// service is a whole service. caller holds the few files that replace those of service when the new service calls another one, and callee is
// what it calls: the API of service under a second placeholder name. A name is spelled your-service, yourservice or YourService
// (their-service, ... for the callee), so that every spelling can be told from every other one and rendering is plain replacement of
// text; identifiers never are a bare yourservice, so that a service may have a Go keyword for a name.
//
// A file that would mean something here, or that go:embed leaves out, has another name: a leading dot is dot_, and go.mod and go.sum end in
// .tmpl. The generated files, go.mod.tmpl and go.sum.tmpl are written by `go run ./cmd/scaffold/internal/refresh`.
package templates

import (
	"embed"
	"io/fs"
)

//go:embed all:service all:caller
var trees embed.FS

// Import paths of the trees as they stand here. Rendering replaces them by the module path of the service, or of what it calls.
const (
	ServicePath = "plinth.internal/templates/service"
	CallerPath  = "plinth.internal/templates/caller"
	CalleePath  = "plinth.internal/templates/callee"
)

// Service returns the tree of a service.
func Service() fs.FS { return sub("service") }

// Caller returns the files that replace those of the same name in [Service] when the service calls another one.
func Caller() fs.FS { return sub("caller") }

// sub returns a tree; its error is impossible for a constant name that is embedded, and would show in the first use.
func sub(dir string) fs.FS {
	tree, _ := fs.Sub(trees, dir)
	return tree
}
