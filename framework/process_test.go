package framework_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/client"
	"plinth.internal/framework"
	"plinth.internal/internal/loopback"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

// These tests run a service as a real process: the test binary itself, which is
// the service when this variable is set. TestMain looks at it.
const asService = "FRAMEWORK_TEST_SERVICE"

func runService() {
	framework.Run("echo", func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, echo{say: func(ctx context.Context, in string) (string, error) {
			if in == "hang" { // it does not look at its context
				<-make(chan struct{})
			}
			if d, err := time.ParseDuration(in); err == nil { // work for that long
				select {
				case <-time.After(d):
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
			return s.Instance().ID, nil
		}})
		if s.Instance().Metadata["stuck"] != "" { // for the tests of a stop that overruns
			s.OnStop("deadlocked", func(context.Context) error { <-make(chan struct{}); return nil })
		}
		return nil
	})
}

// process is the service in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *lockedBuffer
	exited chan struct{}
}

func startProcess(t *testing.T, settings ...string) *process {
	t.Helper()
	p := &process{t: t, stderr: &lockedBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Dir = t.TempDir()
	for _, s := range append([]string{
		"server.grpc.addr=127.0.0.1:0", "server.admin.addr=127.0.0.1:0", "telemetry.log.format=json", "registry.snapshot_dir=" + t.TempDir(),
		"server.drain.dump_dir=" + t.TempDir(),
	}, settings...) {
		p.cmd.Args = append(p.cmd.Args, "--"+s)
	}
	p.cmd.Env = append(os.Environ(), asService+"=1")
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the tests look at ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-p.exited:
		default:
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		if t.Failed() {
			t.Logf("process %d:\n%s", p.cmd.Process.Pid, p.stderr.String())
		}
	})
	return p
}

// says waits for a line of the log.
func (p *process) says(msg string) {
	p.t.Helper()
	eventually(p.t, 10*time.Second, "it says "+msg, func() error {
		if !strings.Contains(p.stderr.String(), `"msg":"`+msg+`"`) {
			return errors.New("no line about it in its log")
		}
		return nil
	})
}

// endpoint waits until the process listens and returns an address of it.
func (p *process) endpoint(name string) string {
	p.t.Helper()
	pattern := regexp.MustCompile(`"msg":"listening".*"` + name + `":"([^"]+)"`)
	var addr string
	eventually(p.t, 10*time.Second, "the process listens", func() error {
		if m := pattern.FindStringSubmatch(p.stderr.String()); m != nil {
			addr = m[1]
			return nil
		}
		return errors.New("no line about it in its log")
	})
	return addr
}

func (p *process) health() (framework.HealthDocument, int) {
	p.t.Helper()
	var doc framework.HealthDocument
	resp, err := http.Get("http://" + p.endpoint("admin") + "/health")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		p.t.Fatal(err)
	}
	return doc, resp.StatusCode
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("the process has not ended after %v", within)
		return -1
	}
}

// eventually asks again until there is no error.
func eventually(t *testing.T, within time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > within {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-tick.C
	}
}

func startEtcd(t *testing.T, opts ...embedded.Option) (*embedded.Server, *clientv3.Client) {
	t.Helper()
	s, err := embedded.Start(filepath.Join(t.TempDir(), "etcd"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := etcd.Dial(etcd.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

// entry reads the one instance of echo.
func entry(ctx context.Context, c *clientv3.Client) (value registry.Instance, lease int64, err error) {
	resp, err := c.Get(ctx, "/plinth/services/echo/", clientv3.WithPrefix())
	if err != nil {
		return value, 0, err
	}
	if len(resp.Kvs) != 1 {
		return value, 0, fmt.Errorf("%d keys", len(resp.Kvs))
	}
	return value, resp.Kvs[0].Lease, json.Unmarshal(resp.Kvs[0].Value, &value)
}

func TestProcessLifecycle(t *testing.T) {
	t.Parallel()
	server, c := startEtcd(t)
	p := startProcess(t, "registry.endpoints="+server.Endpoint())
	addr := p.endpoint("grpc")

	var inst registry.Instance
	took := eventually(t, time.Second, "the key is there under a lease", func() error {
		i, lease, err := entry(t.Context(), c)
		if err == nil && lease == 0 {
			err = errors.New("it has no lease")
		}
		inst = i
		return err
	})
	t.Logf("registered %v after the process listened", took)
	if inst.State != registry.Up || inst.Endpoints["grpc"] != addr || inst.Weight == 0 || inst.Started.IsZero() {
		t.Errorf("entry = %+v, want up at %s", inst, addr)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, service := range []string{"", "test.v1.Echo"} {
		resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q = %v, %v", service, resp, err)
		}
	}
	eventually(t, time.Second, "/health says registered", func() error {
		if doc, code := p.health(); code != 200 || doc.Status != framework.HealthOK || doc.Registry.State != "registered" || doc.Registry.LeaseTTLS != 10 {
			return fmt.Errorf("%d %+v", code, doc)
		}
		return nil
	})

	p.signal(syscall.SIGTERM)
	took = eventually(t, time.Second, "the key says draining", func() error {
		i, _, err := entry(t.Context(), c)
		if err == nil && i.State != registry.Draining {
			err = fmt.Errorf("state %q", i.State)
		}
		return err
	})
	t.Logf("draining %v after SIGTERM", took)
	if _, code := p.health(); code != http.StatusServiceUnavailable {
		t.Errorf("/health during the drain = %d", code)
	}
	if code := p.wait(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if resp, err := c.Get(t.Context(), "/plinth/services/echo/", clientv3.WithPrefix()); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("after the drain: %v, %v", resp, err)
	}
}

func TestProcessKilled(t *testing.T) {
	t.Parallel()
	server, c := startEtcd(t)
	const ttl = 2 * time.Second
	p := startProcess(t, "registry.endpoints="+server.Endpoint(), "registry.ttl="+ttl.String())
	eventually(t, 10*time.Second, "the key is there", func() error {
		_, _, err := entry(t.Context(), c)
		return err
	})
	p.signal(syscall.SIGKILL)
	took := eventually(t, ttl+2*time.Second, "the key is gone", func() error {
		resp, err := c.Get(t.Context(), "/plinth/services/echo/", clientv3.WithPrefix())
		if err == nil && len(resp.Kvs) > 0 {
			err = errors.New("it is there")
		}
		return err
	})
	t.Logf("gone %v after SIGKILL, with a TTL of %v", took, ttl)
}

func TestProcessWithoutRegistry(t *testing.T) {
	t.Parallel()
	addr, err := new(loopback.Addresses).Next() // nobody is there until etcd takes it below
	if err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "registry.endpoints="+addr)
	eventually(t, 10*time.Second, "/health says degraded, and why", func() error {
		doc, code := p.health()
		if code != 200 || doc.Status != framework.HealthDegraded || doc.Registry.State != "registering" || doc.Registry.Error == "" {
			return fmt.Errorf("%d %+v", code, doc)
		}
		return nil
	})
	conn, err := grpc.NewClient(p.endpoint("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := say(t.Context(), conn, "x"); err != nil {
		t.Errorf("without a registry it does not serve: %v", err)
	}
	_, c := startEtcd(t, embedded.WithClientAddr(addr))
	took := eventually(t, 10*time.Second, "it registers by itself", func() error {
		_, _, err := entry(t.Context(), c)
		return err
	})
	t.Logf("registered %v after etcd was there", took)
	eventually(t, time.Second, "/health says ok", func() error {
		if doc, _ := p.health(); doc.Status != framework.HealthOK {
			return fmt.Errorf("%+v", doc)
		}
		return nil
	})
}

func TestProcessStopsWithoutRegistry(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "registry.endpoints=127.0.0.1:1")
	p.endpoint("grpc")
	eventually(t, 5*time.Second, "it is ready", func() error {
		if _, code := p.health(); code != http.StatusOK {
			return fmt.Errorf("/health = %d", code)
		}
		return nil
	})
	p.signal(syscall.SIGTERM)
	if code := p.wait(15 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestProcessRolling restarts both instances under load with SIGTERM. The calls
// may not be repeated by the client, so every one that a restart touches shows.
func TestProcessRolling(t *testing.T) {
	t.Parallel()
	server, c := startEtcd(t)
	settings := []string{"registry.endpoints=" + server.Endpoint()}
	running := []*process{startProcess(t, settings...), startProcess(t, settings...)}

	reg := etcd.Open(c)
	defer reg.Close()
	cl, err := client.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	conn, err := cl.Conn("echo")
	if err != nil {
		t.Fatal(err)
	}
	instances := func(n int) {
		t.Helper()
		eventually(t, 10*time.Second, fmt.Sprintf("%d instances", n), func() error {
			resp, err := c.Get(t.Context(), "/plinth/services/echo/", clientv3.WithPrefix())
			if err == nil && int(resp.Count) != n {
				err = fmt.Errorf("%d keys", resp.Count)
			}
			return err
		})
	}
	instances(2)
	eventually(t, 5*time.Second, "the client knows of both", func() error {
		if v := cl.Views(); len(v) != 1 || v[0].Up != 2 {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})

	var calls, failed atomic.Int64
	var served sync.Map
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				id, err := say(context.WithoutCancel(ctx), conn, "5ms")
				calls.Add(1)
				served.Store(id, true)
				if err != nil && failed.Add(1) < 5 {
					t.Errorf("call: %v", err)
				}
			}
		})
	}
	for i, old := range running {
		old.signal(syscall.SIGTERM)
		if code := old.wait(15 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
		running[i] = startProcess(t, settings...)
		instances(2)
		eventually(t, 10*time.Second, "the new instance answers", func() error {
			n := 0
			served.Range(func(any, any) bool { n++; return true })
			if n < 2+i { // one of the first two may have gone before it was asked
				return fmt.Errorf("%d instances have answered", n)
			}
			return nil
		})
	}
	cancel()
	wg.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), calls.Load())
	}
}

// TestStartsFromASnapshot starts a caller while etcd is away.
func TestStartsFromASnapshot(t *testing.T) {
	t.Parallel()
	server, _ := startEtcd(t)
	callee := startProcess(t, "registry.endpoints="+server.Endpoint())
	callee.endpoint("grpc")
	cache := t.TempDir()
	start := func() (*grpc.ClientConn, func()) {
		t.Helper()
		var conn *grpc.ClientConn
		opts := []framework.Option{
			framework.WithConfigFile(""), framework.WithEnviron([]string{"XDG_CACHE_HOME=" + cache}), framework.WithLogOutput(t.Output()),
		}
		for key, value := range map[string]string{
			"registry.endpoints": server.Endpoint(), "server.grpc.addr": "127.0.0.1:0", "server.admin.addr": "", "server.drain.delay": "0s",
		} {
			opts = append(opts, framework.WithSetting(key, value))
		}
		app, err := framework.New("caller", func(_ context.Context, s *framework.Service) (err error) {
			conn, err = s.Client("echo")
			return err
		}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- app.Run(ctx) }()
		<-app.Ready()
		return conn, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	conn, stop := start()
	eventually(t, 10*time.Second, "a call succeeds and the list is on disk", func() error {
		if _, err := say(t.Context(), conn, "x"); err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(cache, "plinth", "registry", "*", "*", "echo.json"))
		if err == nil && len(files) != 1 {
			err = fmt.Errorf("files %q", files)
		}
		return err
	})
	stop()
	server.Close()
	conn, stop = start()
	defer stop()
	begun := time.Now()
	if _, err := say(t.Context(), conn, "x"); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the call took %s", took)
	}
}

func TestProcessFinishesCalls(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	conn, err := grpc.NewClient(p.endpoint("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	done := make(chan error, 1)
	go func() {
		_, err := say(t.Context(), conn, "3s")
		done <- err
	}()
	eventually(t, 5*time.Second, "the call has begun", func() error {
		resp, err := http.Get("http://" + p.endpoint("admin") + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil {
			return err
		}
		if !strings.Contains(b.String(), `plinth_server_calls_in_flight{method="test.v1.Echo/Say",service="echo"} 1`) {
			return errors.New("no call in flight")
		}
		return nil
	})
	p.signal(syscall.SIGTERM)
	if err := <-done; err != nil {
		t.Errorf("the call that had begun before SIGTERM: %v", err)
	}
	if code := p.wait(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestProcessSecondSignal(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "server.drain.delay=1m")
	conn, err := grpc.NewClient(p.endpoint("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := say(t.Context(), conn, "x"); err != nil {
		t.Fatal(err)
	}
	p.says("ready") // one that is not yet stops without a drain
	p.signal(syscall.SIGTERM)
	p.says("stopping")
	// The same signal twice at the same moment counts as one; somebody who means
	// it sends another one later.
	eventually(t, 5*time.Second, "it ends", func() error {
		select {
		case <-p.exited:
			return nil
		default:
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
			return errors.New("it runs")
		}
	})
	if code := p.wait(time.Second); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d", code)
	}
}

// TestProcessSignalledToTheEnd: the exit code is the framework's, whenever a signal comes.
func TestProcessSignalledToTheEnd(t *testing.T) {
	t.Parallel()
	for range 5 {
		p := startProcess(t, "server.drain.delay=0s")
		p.says("ready")
		p.signal(syscall.SIGTERM)
		p.says("stopping")
		for ended := false; !ended; {
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
			select {
			case <-p.exited:
				ended = true
			case <-time.After(100 * time.Microsecond):
			}
		}
		if code := p.wait(time.Second); code != 0 && code != 128+int(syscall.SIGTERM) {
			t.Errorf("exit code %d", code)
		}
	}
}

// TestProcessSecondSignalAtOnce: how soon a second signal comes says nothing of
// whether it is meant, but for the same one that was sent twice in one go.
func TestProcessSecondSignalAtOnce(t *testing.T) {
	t.Parallel()
	const pause = 50 * time.Millisecond // between two signals that somebody has sent
	for _, tc := range []struct {
		name   string
		second syscall.Signal
		after  time.Duration
		code   int
	}{
		{"another signal", syscall.SIGINT, 0, 128 + int(syscall.SIGINT)},
		{"the same signal a little later", syscall.SIGTERM, pause, 128 + int(syscall.SIGTERM)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := startProcess(t, "server.drain.delay=6s") // an idle instance waits for half of it
			p.says("ready")
			p.signal(syscall.SIGTERM)
			p.says("stopping")
			<-time.After(tc.after)
			p.signal(tc.second)
			if code := p.wait(10 * time.Second); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
		})
	}
}

// TestProcessErrors holds what a user gets on standard error: one clear message
// and nothing else.
func TestProcessErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for _, tc := range []struct {
		name     string
		settings []string
		code     int
		want     string
	}{
		{"bad key", []string{"server.grcp.addr=:9000"}, 2, "echo: flag --server.grcp.addr: server.grcp.addr: is not a known key, did you mean server.grpc.addr?\n"},
		{"bad value", []string{"server.drain.delay=fast"}, 2, `echo: flag --server.drain.delay: server.drain.delay: "fast" is not a duration, want one with a unit such as 500ms, 2s or 1m30s` + "\n"},
		{"no such file", []string{"config=nowhere.yaml"}, 2, "echo: read configuration: open nowhere.yaml: no such file or directory; " +
			"give --config a file that is there, or leave it out for plinth.yaml, which need not be\n"},
		{"taken port", []string{"server.grpc.addr=" + taken.Addr().String()}, 1, "address already in use; set server.grpc.addr to a free address\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := startProcess(t, tc.settings...)
			if code := p.wait(10 * time.Second); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			out := p.stderr.String()
			if !strings.HasSuffix(out, tc.want) || strings.Contains(out, "goroutine ") {
				t.Errorf("standard error is\n%swant it to end with\n%s", out, tc.want)
			}
			for line := range strings.Lines(out) {
				if strings.Contains(line, `"level":"error"`) {
					t.Errorf("said twice: %s", line)
				}
			}
		})
	}
}
