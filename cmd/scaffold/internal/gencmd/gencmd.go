// Package gencmd is `scaffold gen`: .proto files to Go, without protoc.
//
// It is all or nothing: while any file has an error, nothing is written. Files that are right already are not touched, so that build caches
// stay warm.
package gencmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/protogen"
	"plinth.internal/cmd/scaffold/internal/ui"
)

// DefaultPath is the directory below the module root that is searched for .proto files when no path is given.
const DefaultPath = "api"

type options struct {
	check  bool
	dryRun bool
}

// NewCommand returns `scaffold gen [PATH...]`.
func NewCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "gen [PATH...]",
		Short: "Generate Go from .proto files, without protoc",
		Long: `Generate the .pb.go and _grpc.pb.go files beside every .proto file at PATH: files, or directories to search.
Default: ` + DefaultPath + ` below the nearest go.mod. The names of changed files go to standard output.

google/protobuf, google/api, google/rpc and buf/validate can be imported and need not be on disk. Stubs come from the
protoc-gen-go-grpc that the module's go.mod pins as a tool.

A .proto whose methods have google.api.http annotations gets three files more: its routes (.pb.gw.go), the
OpenAPI document of them (.swagger.json), and both in the form that the framework's Service takes (_routes.pb.go).

Exit codes: 0 done or up to date, 1 an error (nothing was written), 2 wrong use, 3 with --check: something is out of date.`,
		Example: `  scaffold gen
  scaffold gen api/orders/v1/orders.proto
  scaffold gen --check`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.check && o.dryRun {
				return ui.Usage("--check and --dry-run exclude each other", "--check exits 3 when something is out of date, --dry-run does not")
			}
			return run(cmd.Context(), ui.NewPrinter(cmd), o, args)
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 3 and name the files when any is out of date")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "write nothing; name the files that would be written")
	ui.JSONFlag(cmd)
	return cmd
}

type fileEvent struct {
	Type  string `json:"type"`
	Path  string `json:"path"`
	State string `json:"state"`
}

type result struct {
	Type    string `json:"type"`
	OK      bool   `json:"ok"`
	Code    string `json:"code,omitempty"`
	Sources int    `json:"sources"`
	Changed int    `json:"changed"`
}

func run(ctx context.Context, p *ui.Printer, o options, args []string) error {
	module, err := protogen.FindModule(".")
	if errors.Is(err, protogen.ErrNoModule) {
		return &ui.Error{Code: "no_module", Message: err.Error(), Hint: "run it inside a service, or make one: scaffold new NAME", Err: err}
	}
	if err != nil {
		return err
	}
	names, err := find(module, args)
	if err != nil {
		return err
	}
	files, warnings, err := generate(ctx, module, names)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		p.Notef("warning: %s", w)
	}
	changed, err := differing(module, files)
	if err != nil {
		return err
	}
	state := "written"
	switch {
	case o.check:
		state = "stale"
	case o.dryRun:
		state = "would write"
	default:
		if err := write(ctx, module, changed); err != nil {
			return err
		}
	}
	for _, f := range changed {
		if err := p.Data(f.Name, fileEvent{"file", f.Name, state}); err != nil {
			return err
		}
	}
	if len(changed) == 0 && !p.JSON() {
		p.Notef("up to date: %s", ui.Count(len(names), ".proto file"))
	}
	if o.check && len(changed) > 0 {
		return &ui.Error{
			Code: "stale", Exit: ui.ExitDiffers, Path: changed[0].Name,
			Message: ui.Count(len(changed), "generated file") + " out of date", Hint: "scaffold gen",
		}
	}
	return p.Result("", result{Type: "result", OK: true, Sources: len(names), Changed: len(changed)})
}

func find(module protogen.Module, args []string) ([]string, error) {
	paths := args
	if len(paths) == 0 {
		paths = []string{filepath.Join(module.Dir, DefaultPath)}
	}
	names, err := module.Protos(paths)
	switch {
	case errors.Is(err, protogen.ErrOutside):
		return nil, &ui.Error{Code: "outside_module", Message: err.Error(), Hint: "run it in the module that the file belongs to", Exit: ui.ExitUsage, Err: err}
	case errors.Is(err, protogen.ErrNotProto):
		return nil, &ui.Error{Code: "not_proto", Message: err.Error(), Hint: "scaffold gen PATH, a .proto file or a directory with some", Exit: ui.ExitUsage, Err: err}
	case errors.Is(err, os.ErrNotExist), err == nil && len(names) == 0:
		shown := strings.Join(args, ", ")
		if missing, ok := errors.AsType[*fs.PathError](err); ok {
			shown = missing.Path
		}
		if len(args) == 0 {
			shown = DefaultPath
		}
		return nil, &ui.Error{
			Code: "no_proto", Message: "no .proto file at " + shown, Path: shown, Err: err,
			Hint: "scaffold gen PATH searches another directory of the module",
		}
	}
	return names, err
}

// generate returns every file that belongs beside the given sources.
func generate(ctx context.Context, module protogen.Module, names []string) ([]protogen.File, []protogen.Diagnostic, error) {
	request, err := protogen.Compile(ctx, module.Open, names)
	if wrong, ok := errors.AsType[*protogen.SyntaxError](err); ok {
		return nil, nil, explain(module, wrong)
	}
	if err != nil {
		return nil, nil, err
	}
	files, err := request.Messages()
	if err != nil {
		return nil, nil, err
	}
	if request.HasServices() {
		plugin, err := protogen.FindPlugin(ctx, module.Dir)
		if errors.Is(err, exec.ErrNotFound) {
			return nil, nil, &ui.Error{Code: "no_go", Message: err.Error(), Hint: "install Go, and put it in PATH", Err: err}
		}
		if err != nil {
			return nil, nil, &ui.Error{
				Code: "no_grpc_plugin", Message: err.Error(), Path: filepath.Join(module.Dir, "go.mod"), Err: err,
				Hint: "go get -tool " + protogen.Plugin + "@" + protogen.PluginVersion + "\nif go.mod has it and it could not be fetched: go mod download",
			}
		}
		stubs, err := request.Services(ctx, plugin)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, stubs...)
	}
	if request.HasRoutes() {
		routes, err := request.Routes(ctx, module.Dir)
		if errors.Is(err, protogen.ErrGateway) {
			return nil, nil, &ui.Error{
				Code: "no_gateway_plugin", Message: err.Error(), Path: filepath.Join(module.Dir, "go.mod"), Err: err,
				Hint: "if go.mod does not have it: go get " + protogen.GatewayModule + "@" + protogen.GatewayVersion +
					"\nif it could not be fetched: go mod download",
			}
		}
		if err != nil {
			return nil, nil, err
		}
		files = append(files, routes...)
	}
	return files, request.Warnings, nil
}

// shownErrors bounds how many findings a person gets at once: the later ones mostly follow from the first.
const shownErrors = 10

// explain makes findings readable: place, message, source line, caret, next step.
func explain(module protogen.Module, wrong *protogen.SyntaxError) error {
	var list []error
	for _, d := range wrong.Diagnostics[:min(shownErrors, len(wrong.Diagnostics))] {
		e := &ui.Error{Code: d.Code, Message: d.String(), Detail: d.Snippet(), Path: d.File}
		if d.Code == protogen.CodeGoPackage {
			e.Hint = "add below the package line: " + goPackageLine(module, d.File)
		}
		list = append(list, e)
	}
	if more := len(wrong.Diagnostics) - shownErrors; more > 0 {
		list = append(list, &ui.Error{Code: protogen.CodeSyntax, Message: ui.Count(more, "more error")})
	}
	return errors.Join(list...)
}

// goPackageLine is the option for a file, by the convention that the import path is the directory and the package name its last two elements.
func goPackageLine(module protogen.Module, file string) string {
	dir := path.Dir(file)
	elements := strings.Split(dir, "/")
	name := strings.Join(elements[max(0, len(elements)-2):], "")
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	return fmt.Sprintf("option go_package = %q;", path.Join(module.Path, dir)+";"+name)
}

// differing returns the files whose content on disk is another one, or that are not there.
func differing(module protogen.Module, files []protogen.File) ([]protogen.File, error) {
	var changed []protogen.File
	for _, f := range files {
		have, err := os.ReadFile(filepath.Join(module.Dir, filepath.FromSlash(f.Name)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("compare generated files: %w", err)
		}
		if err != nil || !bytes.Equal(have, f.Content) {
			changed = append(changed, f)
		}
	}
	return changed, nil
}

// write puts every file beside its place first and renames them last, so that a full disk or an interrupt leaves the old ones whole.
func write(ctx context.Context, module protogen.Module, files []protogen.File) error {
	temporary := make([]string, 0, len(files))
	defer func() {
		for _, name := range temporary {
			_ = os.Remove(name) // gone already when it was renamed
		}
	}()
	for _, f := range files {
		target := filepath.Join(module.Dir, filepath.FromSlash(f.Name))
		t, err := os.CreateTemp(filepath.Dir(target), ".scaffold-*")
		if err != nil {
			return fmt.Errorf("write generated files: %w", err)
		}
		temporary = append(temporary, t.Name())
		_, err = t.Write(f.Content)
		if err := errors.Join(err, t.Chmod(0o644), t.Close()); err != nil {
			return fmt.Errorf("write generated files: %w", err)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("write generated files: %w", context.Cause(ctx))
	}
	for i, f := range files {
		if err := os.Rename(temporary[i], filepath.Join(module.Dir, filepath.FromSlash(f.Name))); err != nil {
			return fmt.Errorf("write generated files: %w", err)
		}
	}
	return nil
}
