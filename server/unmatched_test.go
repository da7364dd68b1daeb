package server_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/middleware"
	"plinth.internal/server"
)

// TestUnmatched: a call of what is not registered goes through the middlewares under
// one name, and its caller is told what grpc tells.
func TestUnmatched(t *testing.T) {
	stream := grpc.StreamDesc{
		StreamName: "Run", ServerStreams: true, ClientStreams: true,
		Handler: func(any, grpc.ServerStream) error { return nil },
	}
	bare := grpc.NewServer()
	bare.RegisterService(&waiterDesc, waiterFunc(fine))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = bare.Serve(l) }()
	defer bare.Stop()

	seen := make(chan string, 1)
	cfg := loopback()
	cfg.Middleware = []middleware.Middleware{func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			err := next(ctx, c)
			seen <- fmt.Sprint(c.Kind, " ", c.FullMethod(), " ", middleware.CodeName(middleware.Code(err)))
			return err
		}
	}}
	_, at := serve(t, cfg, func(s *server.Server) {
		s.RegisterService(&waiterDesc, waiterFunc(fine))
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.v1.Empty", Streams: []grpc.StreamDesc{stream}}, nil)
	})
	cc, plain := dial(t, at[server.GRPC]), dial(t, l.Addr().String())
	for _, tc := range []struct{ method, seen string }{
		{"/test.v1.Waiter/Wait", "server_unary test.v1.Waiter/Wait OK"},
		{"/test.v1.Waiter/Nothing", "server_stream unmatched UNIMPLEMENTED"},
		{"/test.v1.Nobody/Wait", "server_stream unmatched UNIMPLEMENTED"},
		{"/a/b/c", "server_stream unmatched UNIMPLEMENTED"},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "server_stream unmatched UNIMPLEMENTED"},
		{"/test.v1.Empty/Run", "server_stream test.v1.Empty/Run OK"},
	} {
		err := cc.Invoke(t.Context(), tc.method, &emptypb.Empty{}, &emptypb.Empty{})
		if got := recv(t, tc.method, seen); got != tc.seen {
			t.Errorf("%s: the chain saw %q, want %q", tc.method, got, tc.seen)
		}
		if !strings.Contains(tc.seen, "unmatched") {
			continue
		}
		if want := plain.Invoke(t.Context(), tc.method, &emptypb.Empty{}, &emptypb.Empty{}); want == nil || err == nil || err.Error() != want.Error() {
			t.Errorf("%s: %v, want %v", tc.method, err, want)
		}
	}
	err = cc.Invoke(t.Context(), "/"+strings.Repeat("ä", 5000)+"/Wait", &emptypb.Empty{}, &emptypb.Empty{})
	<-seen
	if status.Code(err) != codes.Unimplemented || len(err.Error()) > 400 || !strings.Contains(err.Error(), "unknown service ää") {
		t.Errorf("a name that is too long: %.500v", err)
	}
}
