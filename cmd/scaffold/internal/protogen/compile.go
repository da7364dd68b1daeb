package protogen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	// Imported for their descriptors: what a .proto may import without the file being on disk.
	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

// Compile parses and links the .proto files names (slash-separated, relative to the module root) and everything they import. Imports are
// looked for through open first, then among google/protobuf, google/api, google/rpc and buf/validate, which need not be on disk.
//
// What is wrong in the sources comes as a [*SyntaxError] with every finding; each source must say go_package.
func Compile(ctx context.Context, open Open, names []string) (*Request, error) {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)

	var errs, warnings []reporter.ErrorWithPos
	collect := reporter.NewReporter(
		func(err reporter.ErrorWithPos) error { errs = append(errs, err); return nil },
		func(err reporter.ErrorWithPos) { warnings = append(warnings, err) },
	)
	compiler := protocompile.Compiler{
		Resolver:       protocompile.ResolverFunc(resolver(open)),
		MaxParallelism: 1, // the reporter's slices need no lock, and findings come in a stable order
		SourceInfoMode: protocompile.SourceInfoStandard,
		Reporter:       collect,
	}
	compiled, err := compile(ctx, &compiler, names)
	sources := newSources(open)
	if len(errs) > 0 {
		return nil, &SyntaxError{Diagnostics: sources.diagnose(errs)}
	}
	if err != nil {
		if one, ok := errors.AsType[reporter.ErrorWithPos](err); ok {
			return nil, &SyntaxError{Diagnostics: sources.diagnose([]reporter.ErrorWithPos{one})}
		}
		return nil, err
	}
	var missing []Diagnostic
	order := topological(compiled)
	protos := make([]*descriptorpb.FileDescriptorProto, len(order))
	for i, f := range order {
		protos[i] = protoutil.ProtoFromFileDescriptor(f)
		if slices.Contains(names, f.Path()) && protos[i].GetOptions().GetGoPackage() == "" {
			missing = append(missing, sources.missingGoPackage(f))
		}
	}
	if len(missing) > 0 {
		return nil, &SyntaxError{Diagnostics: missing}
	}
	return &Request{Warnings: sources.diagnose(warnings), request: newRequest(names, protos)}, nil
}

// compile contains a panic of the compiler: a source that trips it up is a finding for the user, never a stack trace.
func compile(ctx context.Context, compiler *protocompile.Compiler, names []string) (files linker.Files, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("compile %s: the compiler cannot digest it: %v", strings.Join(names, ", "), v)
		}
	}()
	files, err = compiler.Compile(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", errors.Join(err, context.Cause(ctx)))
	}
	return files, nil
}

// resolver finds sources through open, and Google's common files and protovalidate's among the descriptors that are part of this program.
// Only those files count: what else the program happens to link in must not decide whether a user's file compiles.
func resolver(open Open) func(name string) (protocompile.SearchResult, error) {
	standard := protocompile.WithStandardImports(protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
		f, err := protoregistry.GlobalFiles.FindFileByPath(name)
		return protocompile.SearchResult{Desc: f}, err
	}))
	return func(name string) (protocompile.SearchResult, error) {
		source, err := open(name)
		if err == nil {
			return protocompile.SearchResult{Source: source}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return protocompile.SearchResult{}, err
		}
		if strings.HasPrefix(name, "google/") || strings.HasPrefix(name, "buf/validate/") {
			if found, err := standard.FindFileByPath(name); err == nil {
				return found, nil
			}
		}
		return protocompile.SearchResult{}, fmt.Errorf("no file %q below the module root, nor among google/protobuf, google/api, google/rpc and buf/validate", name)
	}
}

// topological lists the files and all their imports, each after its own imports.
func topological(files linker.Files) []protoreflect.FileDescriptor {
	var list []protoreflect.FileDescriptor
	seen := make(map[string]bool)
	var visit func(protoreflect.FileDescriptor)
	visit = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		imports := f.Imports()
		for i := range imports.Len() {
			visit(imports.Get(i).FileDescriptor)
		}
		list = append(list, f)
	}
	for _, f := range files {
		visit(f)
	}
	return list
}

// Sources returns an Open over files in memory: names to contents.
func Sources(content map[string][]byte) Open {
	return func(name string) (io.ReadCloser, error) {
		b, ok := content[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(strings.NewReader(string(b))), nil
	}
}
