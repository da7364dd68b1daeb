package project

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// stage is a service on its way to disk.
type stage struct {
	dir    string // the target
	exists bool   // it is there already, and empty
}

// make writes the files into a directory beside the target (inside it, when it exists: that directory may be somebody's working directory or
// a mount, and stays the same one), makes the first commit there, and moves everything to its place.
func (s stage) make(ctx context.Context, r *Result, git bool) (err error) {
	parent := filepath.Dir(s.dir)
	if s.exists {
		parent = s.dir
	}
	undo, err := mkdirAll(parent)
	if err != nil {
		return fmt.Errorf("make the target directory: %w", err)
	}
	temporary, err := os.MkdirTemp(parent, ".scaffold-*")
	if err != nil {
		undo()
		return fmt.Errorf("make the target directory: %w", err)
	}
	defer func() {
		// After success this directory is empty; after an error it is what must not be left.
		err = errors.Join(err, os.RemoveAll(temporary))
		if err != nil {
			undo()
		}
	}()
	// One level down, because a temporary directory is closed to others, and a source tree is as open as the umask lets it be.
	tree := filepath.Join(temporary, r.Name)
	if err := os.Mkdir(tree, 0o777); err != nil {
		return fmt.Errorf("make the target directory: %w", err)
	}
	if err := writeFiles(ctx, tree, r.Files); err != nil {
		return err
	}
	if git {
		r.Commit, r.GitNote = firstCommit(ctx, tree, parent, r.Name)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("make %s: %w", s.dir, context.Cause(ctx))
	}
	if s.exists {
		return moveInto(tree, s.dir)
	}
	if err := os.Rename(tree, s.dir); err != nil {
		return fmt.Errorf("make %s: %w", s.dir, err)
	}
	return nil
}

// mkdirAll is os.MkdirAll with a way back: undo removes the directories that it made, as long as they are empty.
func mkdirAll(dir string) (undo func(), err error) {
	var made []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		made = append(made, at)
	}
	undo = func() {
		for _, d := range made {
			_ = os.Remove(d) // not ours to force: somebody may have put a file there
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// writeFiles writes into dir and nowhere else, whatever the paths say.
func writeFiles(ctx context.Context, dir string, files []File) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write files: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, f := range files {
		if ctx.Err() != nil {
			return fmt.Errorf("write files: %w", context.Cause(ctx))
		}
		name := filepath.FromSlash(f.Path)
		if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
		if err := root.WriteFile(name, f.Content, 0o666); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
	}
	return nil
}

// moveInto moves what is in from into dir, or nothing of it.
func moveInto(from, dir string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("move files into %s: %w", dir, err)
	}
	for i, e := range entries {
		err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name()))
		if err == nil {
			continue
		}
		err = fmt.Errorf("move files into %s: %w", dir, err)
		for _, moved := range entries[:i] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, moved.Name())))
		}
		return err
	}
	return nil
}
