package pscmd

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/framework"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an etcd, and what a test puts into it.
type world struct {
	t      *testing.T
	etcd   *embedded.Server
	client *clientv3.Client
	reg    *registry.Registry
}

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, name := range []string{access.EnvEndpoints, access.EnvNamespace, access.EnvUser, access.EnvPassword} {
		t.Setenv(name, "")
	}
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	reg := etcd.Open(client)
	t.Cleanup(func() { reg.Close() })
	t.Setenv(access.EnvEndpoints, server.Endpoint())
	return &world{t, server, client, reg}
}

func (w *world) put(key, value string) {
	w.t.Helper()
	if _, err := w.client.Put(w.t.Context(), key, value); err != nil {
		w.t.Fatal(err)
	}
}

// announce announces an instance with the given endpoints, as name=address.
func (w *world) announce(inst registry.Instance, endpoints ...string) {
	w.t.Helper()
	inst.Endpoints = map[string]string{}
	for _, e := range endpoints {
		name, addr, _ := strings.Cut(e, "=")
		inst.Endpoints[name] = addr
	}
	if err := w.reg.Announce(context.WithoutCancel(w.t.Context()), inst); err != nil {
		w.t.Fatal(err)
	}
}

// app runs a service of the framework until the end of the test.
func (w *world) app(name string, settings ...string) *framework.App {
	w.t.Helper()
	reg := etcd.Open(w.client)
	w.t.Cleanup(func() { reg.Close() })
	opts := []framework.Option{
		framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(w.t.Output()), framework.WithRegistry(reg),
	}
	for _, s := range append([]string{
		"registry.required=true", "server.grpc.addr=127.0.0.1:0", "server.admin.addr=127.0.0.1:0",
		"server.drain.delay=0s", "service.version=1.4.0", "service.zone=z1",
	}, settings...) {
		key, value, _ := strings.Cut(s, "=")
		opts = append(opts, framework.WithSetting(key, value))
	}
	app, err := framework.New(name, func(context.Context, *framework.Service) error { return nil }, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("stop %s: %v", name, err)
		}
	})
	select {
	case <-app.Ready():
	case err := <-ended:
		ended <- nil
		w.t.Fatalf("start %s: %v", name, err)
	}
	return app
}

// grpcServer serves grpc.health.v1, unless it is nil, and returns its address.
func grpcServer(t *testing.T, status *healthpb.HealthCheckResponse_ServingStatus) string {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer()
	if status != nil {
		h := grpchealth.NewServer()
		h.SetServingStatus("", *status)
		healthpb.RegisterHealthServer(s, h)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		wg.Wait()
	})
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// closedAddr is an address where nobody listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	l := listen(t)
	l.Close()
	return l.Addr().String()
}

// silentAddr is an address where connections are made and nothing is said.
func silentAddr(t *testing.T) string {
	t.Helper()
	return listen(t).Addr().String()
}

// ps runs the command as the command line does.
func ps(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	err = execute(t.Context(), &out, &errOut, args...)
	return out.String(), errOut.String(), err
}

func execute(ctx context.Context, out, errOut io.Writer, args ...string) error {
	cmd := NewCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	return cmd.ExecuteContext(ctx)
}

// stream is an output that a test waits on.
type stream struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the text satisfies ok.
func (s *stream) await(t *testing.T, what string, ok func(string) bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(15 * time.Second)
	for !ok(s.String()) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no %s in\n%s", what, s)
		}
	}
}
