// Package protogen turns .proto files into Go without protoc: the sources are compiled in this process, messages are generated in this
// process, and gRPC stubs by the protoc-gen-go-grpc that the module itself pins as a tool.
//
// The result is what protoc would write with paths=source_relative, but for the comment that names protoc's version. Nothing
// here writes to disk: callers get all files or an error. A [Request] is immutable and may be used from several goroutines.
package protogen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	gengo "google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// Plugin is the import path of the generator of gRPC stubs; PluginVersion the version known to work.
const (
	Plugin        = "google.golang.org/grpc/cmd/protoc-gen-go-grpc"
	PluginVersion = "v1.6.2"
)

// Open reads one .proto file by its slash-separated name relative to the module root. A file that is not there is an error that wraps fs.ErrNotExist.
type Open func(name string) (io.ReadCloser, error)

// File is one generated file: its slash-separated name relative to the module root, and its content.
type File struct {
	Name    string
	Content []byte
}

// Request is a set of compiled .proto files, ready for generators.
type Request struct {
	// Warnings are findings that do not stop generation, such as an import that is not used; in order of the sources.
	Warnings []Diagnostic

	request *pluginpb.CodeGeneratorRequest
}

// Messages generates the .pb.go file of every source, in this process.
func (r *Request) Messages() ([]File, error) {
	plugin, err := gengo.Options{}.New(proto.CloneOf(r.request))
	if err != nil {
		return nil, fmt.Errorf("prepare generation: %w", err)
	}
	plugin.SupportedFeatures = internal_gengo.SupportedFeatures
	plugin.SupportedEditionsMinimum = internal_gengo.SupportedEditionsMinimum
	plugin.SupportedEditionsMaximum = internal_gengo.SupportedEditionsMaximum
	for _, f := range plugin.Files {
		if f.Generate {
			internal_gengo.GenerateFile(plugin, f)
		}
	}
	return files(plugin.Response())
}

// HasServices reports whether any source declares a gRPC service; without one [Request.Services] has nothing to do and no plugin is needed.
func (r *Request) HasServices() bool {
	generate := make(map[string]bool, len(r.request.GetFileToGenerate()))
	for _, name := range r.request.GetFileToGenerate() {
		generate[name] = true
	}
	for _, f := range r.request.GetProtoFile() {
		if generate[f.GetName()] && len(f.GetService()) > 0 {
			return true
		}
	}
	return false
}

// Services generates the _grpc.pb.go file of every source that declares a service, by running the plugin at path (see [FindPlugin]).
func (r *Request) Services(ctx context.Context, path string) ([]File, error) {
	input, err := proto.Marshal(r.request)
	if err != nil {
		return nil, fmt.Errorf("encode the request for %s: %w", path, err)
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &errOut
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %s: %w", path, firstLine(errOut.String()), errors.Join(err, context.Cause(ctx)))
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out.Bytes(), response); err != nil {
		return nil, fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	return files(response)
}

// FindPlugin returns the executable of protoc-gen-go-grpc as pinned by the tool line of the module that dir is in. The go command builds it
// when it is not in the build cache.
func FindPlugin(ctx context.Context, dir string) (string, error) {
	var errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", "-n", Plugin)
	cmd.Dir, cmd.Stderr = dir, &errOut
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("find the go command: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("find the generator of gRPC stubs (%s): %w", firstLine(errOut.String()), errors.Join(err, context.Cause(ctx)))
	}
	return strings.TrimSpace(string(out)), nil
}

func files(response *pluginpb.CodeGeneratorResponse) ([]File, error) {
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	list := make([]File, 0, len(response.GetFile()))
	for _, f := range response.GetFile() {
		list = append(list, File{Name: f.GetName(), Content: []byte(f.GetContent())})
	}
	return list, nil
}

// firstLine is what the go command complains of first, past its progress.
func firstLine(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "go: downloading ") {
			return line
		}
	}
	return "it says nothing"
}

// newRequest puts the files in the order that plugins are promised: every file after the files it imports.
func newRequest(names []string, protos []*descriptorpb.FileDescriptorProto) *pluginpb.CodeGeneratorRequest {
	return &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      new("paths=source_relative"),
		ProtoFile:      protos,
	}
}
