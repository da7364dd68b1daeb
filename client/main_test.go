package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/middleware"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The service of these tests. Get only reads, Put must not happen twice.
const (
	echoService = "clienttest.Echo"
	methodGet   = "/" + echoService + "/Get"
	methodPut   = "/" + echoService + "/Put"
	methodWatch = "/" + echoService + "/Watch"
	methodChat  = "/" + echoService + "/Chat"
)

// registerEcho does what the init function of generated code does: it makes
// the methods' options known, once in the process.
var registerEcho = sync.OnceValue(func() error {
	str := new(".google.protobuf.StringValue")
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:       new("clienttest/echo.proto"),
		Package:    new("clienttest"),
		Syntax:     new("proto3"),
		Dependency: []string{"google/protobuf/wrappers.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("Echo"),
			Method: []*descriptorpb.MethodDescriptorProto{
				{Name: new("Get"), InputType: str, OutputType: str, Options: &descriptorpb.MethodOptions{
					IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum(),
				}},
				{Name: new("Put"), InputType: str, OutputType: str},
				{Name: new("Watch"), InputType: str, OutputType: str, ServerStreaming: new(true)},
			},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(fd)
})

// echo is one instance of the service, on a real port of the loopback.
type echo struct {
	id     string
	addr   string
	server *grpc.Server
	health *health.Server
	calls  atomic.Int64
	// handler decides how a call ends; one that is nil answers with the ID.
	handler atomic.Pointer[func(ctx context.Context, method string) error]
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: echoService,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "Get", Handler: unary(methodGet)},
		{MethodName: "Put", Handler: unary(methodPut)},
	},
	Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
		e := srv.(*echo)
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			return err
		}
		if err := e.serve(s.Context(), methodWatch); err != nil {
			return err
		}
		return s.SendMsg(wrapperspb.String(e.id))
	}}, {StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
		e := srv.(*echo)
		for {
			if err := s.RecvMsg(new(wrapperspb.StringValue)); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := e.serve(s.Context(), methodChat); err != nil {
				return err
			}
			if err := s.SendMsg(wrapperspb.String(e.id)); err != nil {
				return err
			}
		}
	}}},
}

func unary(method string) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		e := srv.(*echo)
		in := new(wrapperspb.StringValue)
		if err := dec(in); err != nil {
			return nil, err
		}
		handle := func(ctx context.Context, _ any) (any, error) {
			if err := e.serve(ctx, method); err != nil {
				return nil, err
			}
			return wrapperspb.String(e.id), nil
		}
		if intercept == nil {
			return handle(ctx, in)
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, handle)
	}
}

func (e *echo) serve(ctx context.Context, method string) error {
	e.calls.Add(1)
	if handle := *e.handler.Load(); handle != nil {
		return handle(ctx, method)
	}
	return nil
}

// fail changes how the instance answers from now on.
func (e *echo) fail(handle func(context.Context, string) error) { e.handler.Store(&handle) }

// world is a registry in memory with a client on it.
type world struct {
	store    *memory.Store
	registry *registry.Registry
	client   *client.Client
	events   *recorder
	told     *registryRecorder

	instances []*echo // that start made
}

// inTurn has all instances called one after the other: what most of these tests
// are about would be hidden by a policy that avoids the sick.
func inTurn(string, string) client.Settings {
	return client.Settings{Balancer: balancer.NameRoundRobin}
}

func newWorld(t *testing.T, opts ...client.Option) *world {
	t.Helper()
	return openWorld(t, memory.NewStore(), nil, opts...)
}

func openWorld(t *testing.T, store *memory.Store, regOpts []registry.Option, opts ...client.Option) *world {
	t.Helper()
	if err := registerEcho(); err != nil {
		t.Fatal(err)
	}
	w := &world{store: store, events: &recorder{}, told: &registryRecorder{}}
	w.registry = memory.Open(w.store, append([]registry.Option{registry.WithEvents(w.told.record)}, regOpts...)...)
	c, err := client.New(w.registry, append([]client.Option{client.WithEvents(w.events.record), client.WithSettings(inTurn)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	w.client = c
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := w.registry.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) announce(t *testing.T, inst registry.Instance) {
	t.Helper()
	if inst.Service == "" {
		inst.Service = "echo"
	}
	if err := w.registry.Announce(context.Background(), inst); err != nil {
		t.Fatal(err)
	}
}

// put enters an instance that no registry looks after, so that it stays away
// when it is taken out by lapse.
func (w *world) put(t *testing.T, inst registry.Instance) {
	t.Helper()
	inst.Service = "echo"
	value, err := registry.Encode(inst)
	if err != nil {
		t.Fatal(err)
	}
	w.store.Put("echo", inst.ID, value)
}

func (w *world) lapse(ids ...string) {
	for _, id := range ids {
		w.store.Put("echo", id, nil)
	}
}

// start runs and announces an instance.
func (w *world) start(t *testing.T, id string, handle func(context.Context, string) error) *echo {
	t.Helper()
	e := listen(t, id, "127.0.0.1:0", handle)
	w.instances = append(w.instances, e)
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"grpc": e.addr}})
	return e
}

// startServer is start with the server's side of the middlewares.
func (w *world) startServer(t *testing.T, id string, handle func(context.Context, string) error) *echo {
	t.Helper()
	e := listen(t, id, "127.0.0.1:0", handle, grpc.UnaryInterceptor(middleware.UnaryServer()))
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"grpc": e.addr}})
	return e
}

func listen(t *testing.T, id, addr string, handle func(context.Context, string) error, opts ...grpc.ServerOption) *echo {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{id: id, addr: lis.Addr().String(), server: grpc.NewServer(opts...), health: health.NewServer()}
	e.fail(handle)
	e.server.RegisterService(&echoDesc, e)
	healthpb.RegisterHealthServer(e.server, e.health)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = e.server.Serve(lis)
	}()
	t.Cleanup(func() {
		e.server.Stop()
		<-served
	})
	return e
}

func (w *world) conn(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := w.client.Conn("echo")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// call makes a unary call and returns the ID of the instance that answered.
func call(ctx context.Context, conn *grpc.ClientConn, method string, opts ...grpc.CallOption) (string, error) {
	var out wrapperspb.StringValue
	err := conn.Invoke(ctx, method, wrapperspb.String("x"), &out, opts...)
	return out.GetValue(), err
}

// connected waits until calls have been answered by n different instances.
func connected(t *testing.T, conn *grpc.ClientConn, n int) {
	t.Helper()
	seen := map[string]bool{}
	eventually(t, "calls reach "+strconv.Itoa(n)+" instances", func() bool {
		if id, err := call(t.Context(), conn, methodGet, grpc.WaitForReady(true)); err == nil {
			seen[id] = true
		}
		return len(seen) >= n
	})
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	within(t, 10*time.Second, what, condition)
}

func within(t *testing.T, d time.Duration, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for !condition() {
		if !pause(ctx, 2*time.Millisecond) {
			t.Fatalf("after %v it is still not so that %s", d, what)
		}
	}
}

// pause lets time pass in a fake handler or between polls.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// load makes calls from several goroutines until stop is closed, and returns
// the number of calls and the errors.
func load(t *testing.T, conn *grpc.ClientConn, method string, stop <-chan struct{}, done *atomic.Int64) []error {
	t.Helper()
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := call(context.Background(), conn, method); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return errs
}

// recorder keeps the events of a client.
type recorder struct {
	mu     sync.Mutex
	events []client.Event
}

func (r *recorder) record(e client.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// registryRecorder keeps the events of a registry.
type registryRecorder struct {
	mu     sync.Mutex
	events []registry.Event
}

func (r *registryRecorder) record(e registry.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// told returns the events of one type.
func told[E registry.Event](r *registryRecorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// recorded returns the events of one type.
func recorded[E client.Event](r *recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// toldOf is recorded where there may be none yet: some are told after what they tell
// of is in use.
func toldOf[E client.Event](t *testing.T, r *recorder) (got []E) {
	t.Helper()
	eventually(t, fmt.Sprintf("a %T is told", *new(E)), func() bool {
		got = recorded[E](r)
		return len(got) > 0
	})
	return got
}

// reply is a handler that fails with a code and trailers.
func reply(code codes.Code, trailers ...string) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		if err := grpc.SetTrailer(ctx, metadata.Pairs(trailers...)); err != nil {
			return err
		}
		return status.Error(code, "as the test wants it")
	}
}

// direct is a connection to one instance without any of the client's parts.
func (w *world) direct(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// failAll is echo.fail for all instances.
func (w *world) failAll(handle func(context.Context, string) error) {
	for _, e := range w.instances {
		e.fail(handle)
	}
}
