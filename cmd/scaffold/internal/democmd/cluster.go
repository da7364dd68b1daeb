package democmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/cmd/scaffold/internal/project"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/config"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

const (
	replicas     = 2
	modulePrefix = "demo.plinth.internal/"
	readyWithin  = 30 * time.Second
	stopWithin   = 15 * time.Second
)

// services in the order in which they are made and started: a service before
// those that call it.
var services = []string{"billing", "orders"}

// cluster is an etcd and the processes of the demo.
type cluster struct {
	p        *ui.Printer
	dir      string
	etcd     *embedded.Server
	client   *clientv3.Client
	registry *registry.Registry

	mu        sync.Mutex
	processes []*process
}

// process is one instance of a service.
type process struct {
	service string
	log     string
	cmd     *exec.Cmd
	exited  chan struct{}
}

var instanceField = regexp.MustCompile(`"instance":"([^"]+)"`)

// id is the instance's ID in the registry, which every line of its log has; the
// service's name until there is one.
func (p *process) id() string {
	if log, err := os.ReadFile(p.log); err == nil {
		if m := instanceField.FindSubmatch(log); m != nil {
			return string(m[1])
		}
	}
	return p.service
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func newCluster(p *ui.Printer) (*cluster, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, &ui.Error{Code: "no_go", Message: "the go command is not to be found, and the demo builds services", Hint: "install Go and put it into PATH", Err: err}
	}
	dir, err := os.MkdirTemp("", "plinth-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	return &cluster{p: p, dir: dir}, nil
}

// start brings everything up to the point where calls can be made.
func (c *cluster) start(ctx context.Context, framework string) error {
	step := time.Now()
	tell := func(what, format string, args ...any) {
		c.p.Notef("  %-9s %s  %.1fs", what, fmt.Sprintf(format, args...), time.Since(step).Seconds())
		step = time.Now()
	}
	var err error
	if c.etcd, err = embedded.Start(filepath.Join(c.dir, "etcd")); err != nil {
		return err
	}
	if c.client, err = etcd.Dial(etcd.Config{Endpoints: []string{c.etcd.Endpoint()}}); err != nil {
		return err
	}
	c.registry = etcd.Open(c.client)
	tell("etcd", "in this process, at %s", c.etcd.Endpoint())

	for _, name := range services {
		o := project.Options{
			Name: name, Module: modulePrefix + name, Dir: filepath.Join(c.dir, name), Framework: framework, NoGit: true,
		}
		if name == "orders" {
			o.Callee = project.Callee{Name: "billing", Module: modulePrefix + "billing", Dir: "../billing"}
		}
		if _, err := project.New(ctx, o); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
	}
	tell("services", "%s made from the templates", strings.Join(services, ", "))

	if err := c.build(ctx); err != nil {
		return err
	}
	tell("build", "both")

	for _, name := range services {
		for range replicas {
			if _, err := c.launch(name); err != nil {
				return err
			}
		}
	}
	for _, p := range c.processes {
		if err := c.awaitRegistered(ctx, p); err != nil {
			return err
		}
	}
	tell("run", "%d instances of each, registered", replicas)
	return nil
}

// build builds the services side by side.
func (c *cluster) build(ctx context.Context) error {
	errs := make([]error, len(services)+1)
	var wg sync.WaitGroup
	for i, name := range services {
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, "go", "build", "-o", c.binary(name), "./cmd/"+name)
			cmd.Dir = filepath.Join(c.dir, name)
			if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil {
				errs[i] = fmt.Errorf("build %s: %w\n%s", name, err, bytes.TrimSpace(out))
			}
		})
	}
	wg.Wait()
	errs[len(services)] = ctx.Err()
	return errors.Join(errs...)
}

func (c *cluster) binary(name string) string { return filepath.Join(c.dir, "bin", name) }

// launch starts one instance, with its log in a file of its own.
func (c *cluster) launch(service string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 1
	for _, p := range c.processes {
		if p.service == service {
			n++
		}
	}
	logs := filepath.Join(c.dir, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for logs: %w", err)
	}
	p := &process{service: service, log: filepath.Join(logs, fmt.Sprintf("%s-%d.log", service, n)), exited: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("make a log file: %w", err)
	}
	defer func() { _ = out.Close() }()                                   // the process has its own descriptor
	p.cmd = exec.CommandContext(context.Background(), c.binary(service)) // the demo ends it by signals, in its own time
	p.cmd.Dir = filepath.Join(c.dir, service)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, config.EnvPrefix) }),
		config.EnvName("registry.endpoints")+"="+c.etcd.Endpoint(),
		config.EnvName("server.grpc.addr")+"=127.0.0.1:0",
		config.EnvName("server.admin.addr")+"=127.0.0.1:0",
		config.EnvName("registry.snapshot_dir")+"="+filepath.Join(c.dir, "snapshots"),
	)
	p.cmd.SysProcAttr = apart()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", service, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.exited)
	}()
	c.processes = append(c.processes, p)
	return p, nil
}

// awaitRegistered waits until the registry lists a process.
func (c *cluster) awaitRegistered(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("it is not registered after %v", readyWithin))
	defer cancel()
	go func() {
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	for snapshot, err := range c.registry.Watch(ctx, p.service) {
		listed := func(i registry.Instance) bool { return i.ID == p.id() }
		if err == nil && slices.ContainsFunc(snapshot.Instances, listed) {
			return nil
		}
	}
	if !p.alive() {
		return fmt.Errorf("start %s: it ended:\n%s", p.service, tail(p.log))
	}
	return fmt.Errorf("start %s: %w\n%s", p.service, context.Cause(ctx), tail(p.log))
}

// kill ends one instance of a service the hard way and returns its ID.
func (c *cluster) kill(service string) (string, error) {
	c.mu.Lock()
	i := slices.IndexFunc(c.processes, func(p *process) bool { return p.service == service && p.alive() })
	p := c.processes[max(i, 0)]
	c.mu.Unlock()
	if i < 0 {
		return "", fmt.Errorf("kill an instance of %s: none is alive", service)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return "", fmt.Errorf("kill %s: %w", p.id(), err)
	}
	<-p.exited
	c.p.Notef("  %-9s %s, with SIGKILL", "killed", p.id())
	return p.id(), nil
}

// restart starts one more instance and returns its ID when it is registered.
func (c *cluster) restart(ctx context.Context, service string) (string, error) {
	p, err := c.launch(service)
	if err != nil {
		return "", err
	}
	if err := c.awaitRegistered(ctx, p); err != nil {
		return "", err
	}
	c.p.Notef("  %-9s %s", "started", p.id())
	return p.id(), nil
}

// logsWith names the instances whose logs have a trace ID.
func (c *cluster) logsWith(trace string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{}
	for _, p := range c.processes {
		if log, err := os.ReadFile(p.log); trace != "" && err == nil && bytes.Contains(log, []byte(trace)) {
			out = append(out, p.id())
		}
	}
	return out
}

// stop ends the processes and etcd, and removes the directory unless it is to
// be kept; then it returns the directory.
func (c *cluster) stop(keep bool) (left string, err error) {
	c.mu.Lock()
	processes := c.processes
	c.mu.Unlock()
	for _, p := range processes {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	deadline := time.After(stopWithin)
	var errs []error
	for _, p := range processes {
		select {
		case <-p.exited:
		case <-deadline:
			errs = append(errs, fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.id(), stopWithin))
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
	}
	if c.registry != nil {
		errs = append(errs, c.registry.Close())
	}
	if c.client != nil {
		errs = append(errs, ignoreCanceled(c.client.Close()))
	}
	if c.etcd != nil {
		c.etcd.Close()
	}
	if keep {
		return c.dir, errors.Join(errs...)
	}
	if err := os.RemoveAll(c.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove the demo's directory: %w", err))
	}
	return "", errors.Join(errs...)
}

// ignoreCanceled passes over what a client that is closed twice says.
func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// tail is the end of a log, for an error.
func tail(path string) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}
