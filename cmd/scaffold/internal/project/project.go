// Package project makes a new service out of the embedded template.
//
// [Render] is pure: the same answers give the same bytes. [New] writes them all or nothing: into a directory beside the target, which is
// renamed at the end; after an error or an interrupt nothing is left, not even parent directories that were made on the way. Neither needs a
// network or any tool but, for the first commit, git, and without git there is simply no commit.
package project

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Options say what to make. Only Name is required.
type Options struct {
	Name      string // the service's name; see CheckName
	Module    string // its module path; default Name
	Dir       string // where to write it; default Name, in the working directory. It may exist when it is empty
	Callee    Callee // a service that it calls; the zero value is none
	Framework string // a checkout of the framework to build with; default: see FindFramework
	NoGit     bool   // make no git repository
	DryRun    bool   // check everything and render, but write nothing
}

// Result is what [New] made, or would make.
type Result struct {
	Name      string
	Module    string
	Dir       string // absolute
	Files     []File
	Framework Framework
	Commit    string // abbreviated hash of the first commit; "" when there is none
	GitNote   string // why there is no commit; "" when there is one, or none was wanted
	Elapsed   time.Duration
}

// Lines counts the lines that are the team's, and those that tools write.
func (r Result) Lines() (yours, generated int) {
	for _, f := range r.Files {
		n := bytes.Count(f.Content, []byte("\n"))
		if f.Generated {
			generated += n
		} else {
			yours += n
		}
	}
	return yours, generated
}

// NotEmptyError says that the target directory has something in it, which New never overwrites.
type NotEmptyError struct {
	Dir     string
	Entries []string // names in it, sorted
}

// Error names the directory and the first entries.
func (e *NotEmptyError) Error() string {
	shown := e.Entries
	more := ""
	if len(shown) > 2 {
		more = fmt.Sprintf(" and %d more", len(shown)-2)
		shown = shown[:2]
	}
	list := shown[0]
	if len(shown) == 2 {
		list += ", " + shown[1]
	}
	return fmt.Sprintf("directory %s is not empty (%s%s)", e.Dir, list, more)
}

// New makes a service. Wrong answers are a [*NameError], [*ModuleError], [*NotEmptyError] or wrap [ErrNoFramework]; nothing is on disk
// after any error. An interrupted ctx is an error with its cause. Git never fails it: see [Result].GitNote.
func New(ctx context.Context, o Options) (Result, error) {
	begin := time.Now()
	if err := CheckName(o.Name); err != nil {
		return Result{}, err
	}
	if o.Module == "" {
		o.Module = o.Name
	}
	if err := CheckModule(o.Module); err != nil {
		return Result{}, err
	}
	if o.Callee != (Callee{}) && (o.Callee.Name == o.Name || o.Callee.Module == o.Module) {
		return Result{}, fmt.Errorf("make %s: it cannot call itself", o.Name)
	}
	if o.Dir == "" {
		o.Dir = o.Name
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Result{}, fmt.Errorf("resolve the target directory: %w", err)
	}
	exists, err := checkEmpty(dir, o.Dir)
	if err != nil {
		return Result{}, err
	}
	framework, err := FindFramework(o.Framework)
	if err != nil {
		return Result{}, err
	}
	files, err := Render(ctx, o.Name, o.Module, o.Callee, framework)
	if err != nil {
		return Result{}, err
	}
	r := Result{Name: o.Name, Module: o.Module, Dir: dir, Files: files, Framework: framework}
	if !o.DryRun {
		s := stage{dir: dir, exists: exists}
		if err := s.make(ctx, &r, !o.NoGit); err != nil {
			return Result{}, err
		}
	}
	r.Elapsed = time.Since(begin)
	return r, nil
}

// checkEmpty reports whether the directory is there, and fails when there is something in it.
func checkEmpty(dir, shown string) (exists bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look into the target directory: %w", err)
	case len(entries) == 0:
		return true, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return true, &NotEmptyError{Dir: shown, Entries: names}
}
