package protogen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"os/exec"
	"path"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	gengo "google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// The generators for methods with google.api.http annotations. They are run from the module itself, whose go.mod decides on the version:
// the generated code needs the runtime of the same one, which every service has through the framework.
const (
	GatewayModule  = "github.com/grpc-ecosystem/grpc-gateway/v2"
	GatewayVersion = "v2.30.0" // known to work

	gatewayPlugin = GatewayModule + "/protoc-gen-grpc-gateway"
	openAPIPlugin = GatewayModule + "/protoc-gen-openapiv2"
)

// openAPISuffix is how the generator names its documents.
const openAPISuffix = ".swagger.json"

// ErrGateway says that one of the generators for REST could not be run.
var ErrGateway = errors.New("run the generators for google.api.http annotations")

// HasRoutes reports whether any source has a method with a google.api.http annotation; without one [Request.Routes] has nothing to do.
func (r *Request) HasRoutes() bool { return len(r.routed()) > 0 }

// routed are the names of the sources with annotations.
func (r *Request) routed() []string {
	var names []string
	for _, f := range r.request.GetProtoFile() {
		if slices.Contains(r.request.GetFileToGenerate(), f.GetName()) && hasRoute(f) {
			names = append(names, f.GetName())
		}
	}
	slices.Sort(names)
	return names
}

func hasRoute(f *descriptorpb.FileDescriptorProto) bool {
	return slices.ContainsFunc(f.GetService(), serviceRoutes)
}

func serviceRoutes(s *descriptorpb.ServiceDescriptorProto) bool {
	for _, m := range s.GetMethod() {
		if m.GetOptions() == nil {
			continue
		}
		// The compiler may hold extensions in a form of its own.
		b, err := proto.Marshal(m.GetOptions())
		if err != nil {
			continue
		}
		options := new(descriptorpb.MethodOptions)
		if proto.Unmarshal(b, options) == nil && proto.HasExtension(options, annotations.E_Http) {
			return true
		}
	}
	return false
}

// Routes generates, for every source with google.api.http annotations, the .pb.gw.go file with its routes, the .swagger.json document that
// describes them, and the _routes.pb.go file that hands both to a service. The generators are run in dir, a directory of the module.
func (r *Request) Routes(ctx context.Context, dir string) ([]File, error) {
	names := r.routed()
	if len(names) == 0 {
		return nil, nil
	}
	gateway, err := r.goRun(ctx, dir, gatewayPlugin, names, "paths=source_relative")
	if err != nil {
		return nil, err
	}
	// Full names cannot be taken for one another when documents are merged.
	documents, err := r.goRun(ctx, dir, openAPIPlugin, names, "openapi_naming_strategy=fqn")
	if err != nil {
		return nil, err
	}
	helpers, err := r.helpers(names)
	if err != nil {
		return nil, err
	}
	return slices.Concat(gateway, documents, helpers), nil
}

// goRun runs a generator of the module's dependencies on some of the sources.
func (r *Request) goRun(ctx context.Context, dir, plugin string, names []string, parameter string) ([]File, error) {
	request := proto.CloneOf(r.request)
	request.FileToGenerate = names
	request.Parameter = &parameter
	input, err := proto.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request for %s: %w", plugin, err)
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "run", plugin)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(input), &out, &errOut
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("find the go command: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %s: %w", ErrGateway, path.Base(plugin), firstLine(errOut.String()), errors.Join(err, context.Cause(ctx)))
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out.Bytes(), response); err != nil {
		return nil, fmt.Errorf("decode the answer of %s: %w", plugin, err)
	}
	return files(response)
}

// helpers makes the files that a service hands its routes and their document over with.
func (r *Request) helpers(names []string) ([]File, error) {
	plugin, err := gengo.Options{}.New(proto.CloneOf(r.request))
	if err != nil {
		return nil, fmt.Errorf("prepare generation: %w", err)
	}
	var list []File
	for _, name := range names {
		f := plugin.FilesByPath[name]
		base := path.Base(f.GeneratedFilenamePrefix)
		var calls strings.Builder
		for _, s := range f.Services {
			if slices.ContainsFunc(f.Proto.GetService(), func(d *descriptorpb.ServiceDescriptorProto) bool {
				return d.GetName() == string(s.Desc.Name()) && serviceRoutes(d)
			}) {
				fmt.Fprintf(&calls, "\t\tRegister%[1]sHandlerClient(ctx, mux, New%[1]sClient(conn)),\n", s.GoName)
			}
		}
		source, err := format.Source(fmt.Appendf(nil, helperSource, name, f.GoPackageName, goName(base), base+openAPISuffix, calls.String()))
		if err != nil {
			return nil, fmt.Errorf("write the routes of %s: %w", name, err)
		}
		list = append(list, File{Name: f.GeneratedFilenamePrefix + "_routes.pb.go", Content: source})
	}
	return list, nil
}

const helperSource = `// Code generated by scaffold gen. DO NOT EDIT.
// source: %[1]s

package %[2]s

import (
	"context"
	_ "embed"
	"errors"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
)

// %[3]sRoutes adds the REST routes of %[1]s; Service.Gateway takes it.
func %[3]sRoutes(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
	return errors.Join(
%[5]s	)
}

// %[3]sOpenAPI describes the REST routes of %[1]s; Service.OpenAPI serves it.
//
//go:embed %[4]s
var %[3]sOpenAPI []byte
`

// goName is "Orders" for orders.
func goName(base string) string {
	var b strings.Builder
	upper := true
	for _, c := range base {
		switch {
		case c >= 'a' && c <= 'z' && upper:
			b.WriteRune(c - 'a' + 'A')
			upper = false
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
			b.WriteRune(c)
			upper = c >= '0' && c <= '9'
		default:
			upper = true
		}
	}
	name := b.String()
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "Proto" + name
	}
	return name
}
