//go:build linux

package chaos_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is the test binary in one of its other roles.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.Writer
	output *lockedBuffer
	exited chan struct{}
	quiet  bool // say little of it when the test fails
}

// launch starts the test binary in a role, in the network namespace if there
// is one. It is killed at the end of the test, even if it is stopped then.
func launch(t *testing.T, role, netns string, env []string, args ...string) *process {
	t.Helper()
	return launchTo(t, nil, role, netns, env, args...)
}

// launchTo is launch with the standard output somewhere else, unless that is
// nil: for many processes, which therefore say little when the test fails.
func launchTo(t *testing.T, stdout io.Writer, role, netns string, env []string, args ...string) *process {
	t.Helper()
	return launchProgram(t, os.Args[0], stdout, role, netns, env, args...)
}

// launchProgram is launchTo for another build of the test binary.
func launchProgram(t *testing.T, program string, stdout io.Writer, role, netns string, env []string, args ...string) *process {
	t.Helper()
	command := append([]string{program}, args...)
	if netns != "" {
		command = append([]string{"ip", "netns", "exec", netns}, command...)
	}
	p := &process{t: t, name: role, cmd: exec.Command(command[0], command[1:]...), output: &lockedBuffer{}, exited: make(chan struct{})}
	p.cmd.Dir = t.TempDir()
	// A cache directory of its own: no service finds what another one saved.
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, "XDG_CACHE_HOME="+p.cmd.Dir)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if stdout != nil {
		p.cmd.Stdout, p.quiet = stdout, true
	}
	// The pipe closes with this process, and then the child ends: see parted.
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is of no interest: it is killed mostly
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		tail := 2000 // bytes; a fleet has fifteen of them
		if p.quiet {
			tail = 500
		}
		if t.Failed() && p.output.tail(tail) != "" {
			t.Logf("%s, process %d, ended with:\n%s", p.name, p.cmd.Process.Pid, p.output.tail(tail))
		}
	})
	return p
}

// order writes a line to a process that takes commands.
func (p *process) order(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatalf("%s: order %q: %v", p.name, line, err)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// kill ends the process as a crash does, and returns when it is gone.
func (p *process) kill() {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.exited
	}
}

// terminate asks the process to stop and waits until it has.
func (p *process) terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%s has not stopped 20 seconds after SIGTERM", p.name)
	}
}

// startService starts an instance of the service and returns once it listens.
func startService(t *testing.T, netns, host string, env []string, settings ...string) *process {
	t.Helper()
	args := []string{"--server.grpc.addr=" + host + ":0", "--server.admin.addr=", "--server.tls.mode=insecure", "--telemetry.log.format=json"}
	for _, s := range settings {
		args = append(args, "--"+s)
	}
	p := launch(t, roleService, netns, env, args...)
	eventually(t, 20*time.Second, "the service listens", func() error {
		if p.addr() == "" {
			return errors.New("no line about it in its log")
		}
		return nil
	})
	return p
}

var listening = regexp.MustCompile(`"msg":"listening".*"grpc":"([^"]+)"`)

// addr is where a service listens, "" as long as it has not said.
func (p *process) addr() string {
	if m := listening.FindStringSubmatch(p.output.String()); m != nil {
		return m[1]
	}
	return ""
}

// lockedBuffer takes the output of a process while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}
