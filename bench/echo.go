package main

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const sayMethod = "/bench.v1.Echo/Say"

// echoServer is the service: it answers with what it was sent. It is written by
// hand, as generated code would be.
type echoServer interface {
	Say(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)
}

type echo struct{}

func (echo) Say(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) { //nolint:unparam // as generated code wants it
	return wrapperspb.Bytes(in.GetValue()), nil
}

func register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.v1.Echo",
		HandlerType: (*echoServer)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Say", Handler: handleSay}},
	}, echo{})
}

func handleSay(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // grpc's order
	in := new(wrapperspb.BytesValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	s, ok := srv.(echoServer)
	if !ok {
		return nil, fmt.Errorf("serve %s: %T is not an echo", sayMethod, srv)
	}
	if interceptor == nil {
		return s.Say(ctx, in)
	}
	return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: sayMethod}, func(ctx context.Context, _ any) (any, error) {
		return s.Say(ctx, in)
	})
}

// say makes one call and checks that the answer has the right size.
func say(ctx context.Context, cc grpc.ClientConnInterface, in *wrapperspb.BytesValue) error {
	out := new(wrapperspb.BytesValue)
	if err := cc.Invoke(ctx, sayMethod, in, out); err != nil {
		return err
	}
	if len(out.GetValue()) != len(in.GetValue()) {
		return fmt.Errorf("call %s: %d bytes were sent, %d came back", sayMethod, len(in.GetValue()), len(out.GetValue()))
	}
	return nil
}

func listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}
