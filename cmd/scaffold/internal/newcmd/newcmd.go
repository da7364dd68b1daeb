// Package newcmd is `scaffold new`: it makes a service that builds, vets, tests and answers at once.
//
// The work is done by package project; here are the flags, and how results and errors read.
package newcmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"plinth.internal/cmd/scaffold/internal/project"
	"plinth.internal/cmd/scaffold/internal/ui"
)

// NewCommand returns `scaffold new NAME`.
func NewCommand() *cobra.Command {
	var o project.Options
	var calls string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a service",
		Long: `Make a service that builds, vets, tests and answers at once, in a directory of its own with its own go.mod.

It builds with the framework's release that this program is from. A program built from a checkout writes a replace line to the checkout
instead, and says so; --framework or ` + project.FrameworkEnv + ` names another one.

Exit codes: 0 made, 1 an error (nothing is left), 2 wrong use.`,
		Example: `  scaffold new orders --module github.com/acme/orders
  scaffold new orders --module github.com/acme/orders --calls billing=github.com/acme/billing@../billing`,
		Args: ui.Arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			return run(cmd.Context(), ui.NewPrinter(cmd), o, calls)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Module, "module", "", "module path (default NAME)")
	f.StringVar(&o.Dir, "dir", "", "directory to write; it may exist if it is empty (default ./NAME)")
	f.StringVar(&calls, "calls", "", "a service it calls, as NAME=MODULE[@DIR]; DIR, relative to the new service, becomes a replace line")
	f.StringVar(&o.Framework, "framework", "", "checkout of "+project.FrameworkModule+" to build with")
	f.BoolVar(&o.NoGit, "no-git", false, "make no git repository")
	f.BoolVar(&o.DryRun, "dry-run", false, "write nothing; name the files that would be written")
	ui.JSONFlag(cmd)
	return cmd
}

type fileEvent struct {
	Type      string `json:"type"`
	Path      string `json:"path"`
	Lines     int    `json:"lines"`
	Generated bool   `json:"generated,omitempty"`
}

type result struct {
	Type      string   `json:"type"`
	OK        bool     `json:"ok"`
	DryRun    bool     `json:"dry_run,omitempty"`
	Name      string   `json:"name"`
	Module    string   `json:"module"`
	Dir       string   `json:"dir"`
	Files     int      `json:"files"`
	Yours     int      `json:"lines_yours"`
	Generated int      `json:"lines_generated"`
	Framework string   `json:"framework,omitempty"`
	Replace   string   `json:"replace,omitempty"`
	Commit    string   `json:"commit,omitempty"`
	GitNote   string   `json:"git_note,omitempty"`
	ElapsedS  float64  `json:"elapsed_s"`
	Next      []string `json:"next"`
}

func run(ctx context.Context, p *ui.Printer, o project.Options, calls string) error {
	if err := project.CheckName(o.Name); err != nil {
		return explain(err, o)
	}
	if calls != "" {
		callee, err := project.ParseCallee(calls)
		if err != nil {
			return &ui.Error{Code: "bad_callee", Message: err.Error(), Hint: "--calls billing=github.com/acme/billing@../billing", Exit: ui.ExitUsage, Err: err}
		}
		if callee.Name == o.Name {
			return &ui.Error{Code: "bad_callee", Message: o.Name + " cannot call itself", Hint: "--calls names another service", Exit: ui.ExitUsage}
		}
		o.Callee = callee
	}
	r, err := project.New(ctx, o)
	if err != nil {
		return explain(err, o)
	}
	if r.Framework.Dir != "" {
		p.Notef("note: go.mod replaces %s by %s: this scaffold is from a checkout, not from a release", project.FrameworkModule, r.Framework.Dir)
	}
	next := nextSteps(o, r)
	if p.JSON() || o.DryRun {
		for _, f := range r.Files {
			if err := p.Data("  "+f.Path, fileEvent{"file", f.Path, strings.Count(string(f.Content), "\n"), f.Generated}); err != nil {
				return err
			}
		}
	}
	yours, generated := r.Lines()
	return p.Result(text(o, r, next), result{
		Type: "result", OK: true, DryRun: o.DryRun, Name: r.Name, Module: r.Module, Dir: r.Dir, Files: len(r.Files), Yours: yours, Generated: generated,
		Framework: r.Framework.Version, Replace: r.Framework.Dir, Commit: r.Commit, GitNote: r.GitNote, ElapsedS: r.Elapsed.Seconds(), Next: next,
	})
}

// nextSteps are commands to copy: from here to the first call.
func nextSteps(o project.Options, r project.Result) []string {
	steps := []string{"cd " + shown(o)}
	if o.Callee.Name != "" && o.Callee.Dir == "" {
		steps = append(steps, "go get "+o.Callee.Module)
	}
	return append(steps, "go test ./...", "go run ./cmd/"+r.Name)
}

func shown(o project.Options) string {
	if o.Dir != "" {
		return filepath.Clean(o.Dir)
	}
	return o.Name
}

func text(o project.Options, r project.Result, next []string) string {
	var b strings.Builder
	yours, generated := r.Lines()
	did := "created"
	if o.DryRun {
		did = "would create"
	}
	fmt.Fprintf(&b, "  %-8s %d files  (%d lines yours, %d generated)  %.2fs\n", did, len(r.Files), yours, generated, r.Elapsed.Seconds())
	if o.DryRun {
		b.WriteString("  nothing was written")
		return b.String()
	}
	fmt.Fprintf(&b, "  %-8s %s\n", "module", r.Module)
	if r.Commit != "" {
		fmt.Fprintf(&b, "  %-8s initial commit %s\n", "git", r.Commit)
	} else if r.GitNote != "" {
		fmt.Fprintf(&b, "  %-8s no commit: %s\n", "git", strings.ReplaceAll(r.GitNote, "\n", "; "))
	}
	b.WriteString("\n  Next:\n")
	for _, step := range next {
		comment := ""
		if strings.HasPrefix(step, "go run ") {
			comment = "   # gRPC on :9000, admin on :9100; no etcd needed"
		}
		fmt.Fprintf(&b, "    %s%s\n", step, comment)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// explain turns the errors of package project into what a person can act on.
func explain(err error, o project.Options) error {
	if e, ok := errors.AsType[*project.NameError](err); ok {
		hint := "scaffold new orders"
		if e.Suggest != "" {
			hint = "scaffold new " + e.Suggest
		}
		return &ui.Error{Code: "bad_name", Message: e.Error(), Hint: hint, Exit: ui.ExitUsage, Err: err}
	}
	if e, ok := errors.AsType[*project.ModuleError](err); ok {
		return &ui.Error{
			Code: "bad_module", Message: e.Error(), Hint: fmt.Sprintf("scaffold new %s --module github.com/you/%s", o.Name, o.Name), Exit: ui.ExitUsage, Err: err,
		}
	}
	if e, ok := errors.AsType[*project.NotEmptyError](err); ok {
		return &ui.Error{Code: "target_not_empty", Message: e.Error(), Hint: "choose another with --dir", Path: e.Dir, Err: err}
	}
	if errors.Is(err, project.ErrNoFramework) {
		return &ui.Error{
			Code: "no_framework", Message: err.Error(), Err: err,
			Hint: "--framework DIR, or " + project.FrameworkEnv + "=DIR, names a checkout of " + project.FrameworkModule,
		}
	}
	return err
}
