package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSuite runs the suite's gRPC part. What is known to fail is required to
// fail, and is grpc-go's doing: plain grpc-go fails all of it as well.
//
// The runs come one after the other: some cases give the client 200 ms between
// an answer and the next one, and the runner itself needs the processor for
// seconds.
func TestSuite(t *testing.T) {
	const (
		server = "-mode server"
		client = "-mode client"
		bare   = " -bare"
	)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runner := runnerPath(t)
	for _, tt := range []struct {
		name     string
		mode     string
		adapters []string // their arguments
		known    string   // a file with the cases that are known to fail
		only     bool     // run nothing else
		want     tally    // of the version of the suite that go.mod pins
	}{
		{"client and server", "both", []string{client, server}, "", false, tally{total: 152, passed: 152}},
		{"client", "client", []string{client}, "testdata/client-known-failing.txt", false, tally{total: 403, passed: 399, known: 4}},
		{"client of plain grpc-go", "client", []string{client + bare}, "testdata/client-known-failing.txt", true, tally{total: 4, known: 4}},
		{"server", "server", []string{server}, "testdata/server-known-failing.txt", false, tally{total: 372, passed: 368, known: 4}},
		{"server of plain grpc-go", "server", []string{server + bare}, "testdata/server-known-failing.txt", true, tally{total: 4, known: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--conf", "testdata/config.yaml", "--mode", tt.mode}
			if tt.known != "" {
				args = append(args, "--known-failing", "@"+tt.known)
			}
			if tt.only {
				args = append(args, "--run", "@"+tt.known)
			}
			for i, adapter := range tt.adapters {
				args = append(args, []string{"--", "----"}[i], self)
				args = append(args, strings.Fields(adapter)...)
			}
			begun := time.Now()
			out, err := runGroup(t, runner, args...)
			if err != nil {
				t.Fatalf("run the suite: %v\n%s", err, out)
			}
			got, err := readTally(out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v\n%s", got, tt.want, out)
			}
			t.Logf("%d cases: %d passed, %d failed, %d failed as they are known to, in %s",
				got.total, got.passed, got.failed, got.known, time.Since(begun).Round(100*time.Millisecond))
		})
	}
}

// tally is what the runner counts.
type tally struct{ total, passed, failed, known int }

// counted finds the runner's last words.
var counted = regexp.MustCompile(`(?s)Total cases: (\d+)\n(\d+) passed, (\d+) failed\n(?:\(Another (\d+) failed as expected.*)?$`)

func readTally(out string) (tally, error) {
	m := counted.FindStringSubmatch(strings.TrimSpace(out) + "\n")
	if m == nil {
		return tally{}, errors.New("the runner gives no summary")
	}
	var n tally
	for i, field := range []*int{&n.total, &n.passed, &n.failed, &n.known} {
		if m[i+1] != "" {
			if _, err := fmt.Sscan(m[i+1], field); err != nil {
				return tally{}, err
			}
		}
	}
	return n, nil
}

// runnerPath builds the runner, or finds it built.
func runnerPath(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "connectconformance")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build the suite's runner: %v\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// runGroup runs a command that starts others, and sees to it that none of them
// is left, not even when the test ends early.
func runGroup(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-5*time.Second))
		defer cancel()
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), asAdapter+"=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // what is left may hold the pipes
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return "", err
	}
	err := cmd.Wait()
	if left(cmd.Process.Pid, 5*time.Second) {
		err = errors.Join(err, errLeft, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	}
	return out.String(), err
}

var errLeft = errors.New("a process was left behind")

// left waits until a group has no process, and reports whether it still has some
// after that time. A server that was told to end may need a moment.
func left(group int, within time.Duration) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); <-tick.C {
		if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
			return false
		}
	}
	return true
}

func TestProcessThatIsLeft(t *testing.T) {
	t.Parallel()
	if _, err := runGroup(t, "sh", "-c", "sleep 60 & true"); !errors.Is(err, errLeft) || !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("%v, want that one was left", err)
	}
	if out, err := runGroup(t, "sh", "-c", "echo done"); err != nil || out != "done\n" {
		t.Errorf("%q, %v, want no error", out, err)
	}
}
