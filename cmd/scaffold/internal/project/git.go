package project

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
)

// firstCommit makes dir a git repository with one commit, unless git is missing or around is within a work tree already. It returns the
// abbreviated hash, or why there is none.
func firstCommit(ctx context.Context, dir, around, name string) (commit, note string) {
	if out, err := git(ctx, around, "rev-parse", "--is-inside-work-tree"); err == nil && out == "true" {
		return "", "already inside a git work tree"
	} else if errors.Is(err, exec.ErrNotFound) {
		return "", "git is not installed"
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "--all"},
	} {
		if _, err := git(ctx, dir, args...); err != nil {
			return "", "no repository: " + err.Error()
		}
	}
	// Neither a hook nor a passphrase prompt of the user's own setup may stand in the way of a machine's commit.
	if _, err := git(ctx, dir, "-c", "core.hooksPath="+os.DevNull, "-c", "commit.gpgSign=false", "commit", "--quiet", "--message", name+": new service"); err != nil {
		return "", "repository without a commit: " + err.Error()
	}
	commit, err := git(ctx, dir, "rev-parse", "--short", "HEAD")
	if err != nil {
		return "", err.Error()
	}
	return commit, ""
}

// git runs git in dir and returns its output. Variables that would make it work on another repository are left out.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errOut
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "GIT_") && !strings.HasPrefix(name, "GIT_CONFIG") && !isIdentity(name) {
			continue
		}
		cmd.Env = append(cmd.Env, v)
	}
	if err := cmd.Run(); err != nil {
		if lines := strings.Split(strings.TrimSpace(errOut.String()), "\n"); lines[0] != "" {
			// git says what is wrong first or last, and advice between.
			return "", errors.Join(errors.New(lines[len(lines)-1]), err)
		}
		return "", err
	}
	return strings.TrimSpace(out.String()), nil
}

// isIdentity reports whether a variable says who commits.
func isIdentity(name string) bool {
	return strings.HasPrefix(name, "GIT_AUTHOR_") || strings.HasPrefix(name, "GIT_COMMITTER_")
}
