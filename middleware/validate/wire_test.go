package validate_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
	"plinth.internal/middleware/validate"
)

// ordersDesc is a service whose methods answer with what they are sent: Put is
// unary, Chat a stream in both directions.
func ordersDesc(md protoreflect.MessageDescriptor) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "validatetest.Orders",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Put",
			Handler: func(srv any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
				in := dynamicpb.NewMessage(md)
				if err := dec(in); err != nil {
					return nil, err
				}
				return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/validatetest.Orders/Put"},
					func(_ context.Context, req any) (any, error) { return req, nil })
			},
		}},
		Streams: []grpc.StreamDesc{{StreamName: "Chat", ClientStreams: true, ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			for {
				in := dynamicpb.NewMessage(md)
				if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				if err := s.SendMsg(in); err != nil {
					return err
				}
			}
		}}},
	}
}

// TestOverGRPC: violations reach the caller of unary calls and streams.
func TestOverGRPC(t *testing.T) {
	fd := compile(t, orders)
	md := fd.Messages().ByName("Order")
	v := validate.New()
	lis := bufconn.Listen(1 << 20)
	s := grpc.NewServer(
		grpc.ChainUnaryInterceptor(middleware.UnaryServer(), middleware.ValidateUnary(v)),
		grpc.ChainStreamInterceptor(middleware.StreamServer(), middleware.ValidateStream(v)),
	)
	s.RegisterService(ordersDesc(md), struct{}{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		<-served
	})
	good := message(t, fd, "Order", `{"id":"abc","items":[{"quantity":1}]}`)
	bad := message(t, fd, "Order", `{"id":"abc","items":[{"quantity":1},{"quantity":0}]}`)
	violated := func(err error) {
		t.Helper()
		e, ok := apierror.From(err)
		if !ok || e.Code() != codes.InvalidArgument || len(e.Violations()) != 1 || e.Violations()[0].Field != "items[1].quantity" {
			t.Errorf("the caller has %v", err)
		}
	}

	if err := conn.Invoke(t.Context(), "/validatetest.Orders/Put", good, dynamicpb.NewMessage(md)); err != nil {
		t.Error(err)
	}
	violated(conn.Invoke(t.Context(), "/validatetest.Orders/Put", bad, dynamicpb.NewMessage(md)))

	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/validatetest.Orders/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := errors.Join(stream.SendMsg(good), stream.RecvMsg(dynamicpb.NewMessage(md))); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.SendMsg(bad); err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(dynamicpb.NewMessage(md))
	violated(err)
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("the stream ends with %v", err)
	}
}
