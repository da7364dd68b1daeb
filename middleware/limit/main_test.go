package limit_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	getMethod   = "/shop.v1.Orders/Get"   // unary
	watchMethod = "/shop.v1.Orders/Watch" // ends when handle does
	checkMethod = "/grpc.health.v1.Health/Check"
)

// start serves a chain in memory. The handlers do what handle does.
func start(t testing.TB, handle func(context.Context) error, chain ...middleware.Middleware) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.UnaryInterceptor(middleware.UnaryServer(chain...)), grpc.StreamInterceptor(middleware.StreamServer(chain...)))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "shop.v1.Orders", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: func(_ any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := dec(in); err != nil {
				return nil, err
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{FullMethod: getMethod}, func(ctx context.Context, _ any) (any, error) {
				return in, handle(ctx)
			})
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			return handle(s.Context())
		}}},
	}, nil)
	healthpb.RegisterHealthServer(s, health.NewServer())
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(lis) })
	cc, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		s.Stop()
		served.Wait()
	})
	return cc
}

// call makes a unary call.
func call(ctx context.Context, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) error {
	in, out := any(new(emptypb.Empty)), any(new(emptypb.Empty))
	if method == checkMethod {
		in, out = new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse)
	}
	return cc.Invoke(ctx, method, in, out, opts...)
}

// holder keeps calls until it is told to let them go.
type holder struct {
	entered chan struct{}
	release chan struct{}
}

func newHolder() *holder { return &holder{make(chan struct{}, 1000), make(chan struct{})} }

func (h *holder) handle(ctx context.Context) error {
	h.entered <- struct{}{}
	select {
	case <-h.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *holder) wait(t testing.TB, n int) {
	t.Helper()
	for range n {
		select {
		case <-h.entered:
		case <-time.After(10 * time.Second):
			t.Fatal("the calls do not come")
		}
	}
}
