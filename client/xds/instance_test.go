package xds_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/middleware"
	"plinth.internal/middleware/tracing"
	"plinth.internal/registry/memory"
	"plinth.internal/trace"
)

const methodGet = "/orders.v1.Orders/Get"

// instance answers with the trace ID of the call.
type instance struct {
	addr    string
	server  *grpc.Server
	calls   atomic.Int64
	handler atomic.Pointer[func(context.Context) error]
}

func (i *instance) get(ctx context.Context) (*wrapperspb.StringValue, error) {
	i.calls.Add(1)
	if handle := i.handler.Load(); handle != nil {
		if err := (*handle)(ctx); err != nil {
			return nil, err
		}
	}
	id, _ := trace.IDs(ctx)
	return wrapperspb.String(id), nil
}

func newTracer(t *testing.T) *trace.Tracer {
	t.Helper()
	tracer, err := trace.New(trace.Config{Service: t.Name(), Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Shutdown(context.Background()) })
	return tracer
}

func startInstance(t *testing.T, opts ...grpc.ServerOption) *instance {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{addr: lis.Addr().String()}
	i.server = grpc.NewServer(append(opts, grpc.UnaryInterceptor(middleware.UnaryServer(tracing.Server(newTracer(t)))))...)
	i.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "orders.v1.Orders",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: func(_ any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: i, FullMethod: methodGet}, func(ctx context.Context, _ any) (any, error) { return i.get(ctx) })
		}}},
	}, i)
	var wg sync.WaitGroup
	wg.Go(func() { _ = i.server.Serve(lis) })
	t.Cleanup(func() {
		i.server.Stop()
		wg.Wait()
	})
	return i
}

// connect is a connection to orders through the mesh.
func connect(t *testing.T, opts ...client.Option) *grpc.ClientConn {
	t.Helper()
	reg := memory.Open(memory.NewStore())
	c, err := client.New(reg, append([]client.Option{client.WithTargets(func(service string) string { return "xds:///" + service })}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := c.Conn("orders")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// get makes a call and returns what the instance answered.
func get(ctx context.Context, conn *grpc.ClientConn, opts ...grpc.CallOption) (string, error) {
	var out wrapperspb.StringValue
	err := conn.Invoke(ctx, methodGet, wrapperspb.String("x"), &out, opts...)
	return out.GetValue(), err
}

// reached calls until each of the instances has been called.
func reached(t *testing.T, conn *grpc.ClientConn, instances ...*instance) {
	t.Helper()
	for i := 0; ; i++ {
		if _, err := get(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		missing := 0
		for _, i := range instances {
			if i.calls.Load() == 0 {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if i > 100_000 {
			t.Fatalf("%d of %d instances get no calls", missing, len(instances))
		}
	}
}
