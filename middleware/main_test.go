package middleware_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait is how long a test waits for what must happen.
const wait = 10 * time.Second

// echo is a gRPC service written by hand. Its methods answer with what they
// were sent, unless handle says otherwise.
type echo struct {
	handle func(ctx context.Context) error // nil for none
}

const (
	sayMethod     = "/test.v1.Echo/Say"     // unary
	repeatMethod  = "/test.v1.Echo/Repeat"  // one message in, three out
	collectMethod = "/test.v1.Echo/Collect" // messages in until the end, one out
	chatMethod    = "/test.v1.Echo/Chat"    // one out for each one in
)

func (e echo) run(ctx context.Context) error {
	if e.handle == nil {
		return nil
	}
	return e.handle(ctx)
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "test.v1.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Say",
		Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, req any) (any, error) { return req, srv.(echo).run(ctx) }
			if interceptor == nil {
				return handler(ctx, in)
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: sayMethod}, handler)
		},
	}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Repeat", ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
			in := new(wrapperspb.StringValue)
			if err := s.RecvMsg(in); err != nil {
				return err
			}
			for range 3 {
				if err := srv.(echo).run(s.Context()); err != nil {
					return err
				}
				if err := s.SendMsg(in); err != nil {
					return err
				}
			}
			return nil
		}},
		{StreamName: "Collect", ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
			var all strings.Builder
			for {
				in := new(wrapperspb.StringValue)
				err := s.RecvMsg(in)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				all.WriteString(in.GetValue())
			}
			if err := srv.(echo).run(s.Context()); err != nil {
				return err
			}
			return s.SendMsg(wrapperspb.String(all.String()))
		}},
		{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
			if len(metadata.ValueFromIncomingContext(s.Context(), "send-header")) > 0 {
				if err := s.SendHeader(metadata.Pairs("x-own", "1")); err != nil {
					return err
				}
			}
			if err := srv.(echo).run(s.Context()); err != nil {
				return err
			}
			for {
				in := new(wrapperspb.StringValue)
				err := s.RecvMsg(in)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if err := s.SendMsg(in); err != nil {
					return err
				}
			}
		}},
	},
}

// pair is a server and a client with a chain each, connected in memory.
type pair struct {
	e              echo
	server, client []middleware.Middleware
	clientOpts     []grpc.DialOption
}

func (p pair) start(t *testing.T) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	s := grpc.NewServer(
		grpc.UnaryInterceptor(middleware.UnaryServer(p.server...)),
		grpc.StreamInterceptor(middleware.StreamServer(p.server...)),
	)
	s.RegisterService(&echoDesc, p.e)
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(lis) })
	cc, err := grpc.NewClient("passthrough:///bufconn", append([]grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(middleware.UnaryClient("echo", p.client...)),
		grpc.WithStreamInterceptor(middleware.StreamClient("echo", p.client...)),
	}, p.clientOpts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close() // a test may have closed it
		s.Stop()
		served.Wait()
	})
	return cc
}

func say(ctx context.Context, cc *grpc.ClientConn, in string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, sayMethod, wrapperspb.String(in), out, opts...)
	return out.GetValue(), err
}

// open opens a stream of one of the methods.
func open(ctx context.Context, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ServerStreams: method != collectMethod, ClientStreams: method != repeatMethod}
	return cc.NewStream(ctx, desc, method, opts...)
}

// drain reads a stream to its end and returns the messages and the end's error,
// nil for io.EOF.
func drain(s grpc.ClientStream) (msgs []string, err error) {
	for {
		m := new(wrapperspb.StringValue)
		if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
			return msgs, nil
		} else if err != nil {
			return msgs, err
		}
		msgs = append(msgs, m.GetValue())
	}
}

// ended is what a watcher saw of a call at its end.
type ended struct {
	call middleware.Call
	full string
	peer string
	err  error
}

// watcher is a middleware that tells of the ends of calls.
type watcher chan ended

func newWatcher() watcher { return make(watcher, 100) }

func (w watcher) middleware(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		err := next(ctx, call)
		w <- ended{call: *call, full: call.FullMethod(), peer: call.Peer(), err: err}
		return err
	}
}

func (w watcher) next(t *testing.T) ended {
	t.Helper()
	select {
	case e := <-w:
		return e
	case <-time.After(wait):
		t.Fatal("the chain did not end")
		return ended{}
	}
}

// none checks that no call has ended yet.
func (w watcher) none(t *testing.T) {
	t.Helper()
	select {
	case e := <-w:
		t.Fatalf("the chain ended early: %+v", e)
	default:
	}
}

// before is a middleware that calls fn before the call.
func before(fn func(ctx context.Context, call *middleware.Call)) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			fn(ctx, call)
			return next(ctx, call)
		}
	}
}

// answer is a middleware that does not call on.
func answer(err error) middleware.Middleware {
	return func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error { return err }
	}
}

// again is a middleware that calls on n times and returns the last outcome.
func again(n int) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) (err error) {
			for range n {
				err = next(ctx, call)
			}
			return err
		}
	}
}

// has reports whether a key has exactly these values.
func has(md metadata.MD, key string, want ...string) bool { return slices.Equal(md.Get(key), want) }
