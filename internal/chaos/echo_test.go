//go:build linux

package chaos_test

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echoService is the service of all scenarios.
const echoService = "echo"

// echo answers with the ID of its instance. It is written by hand, so that the
// tests need no generated code, and promises nothing about repeated calls: what
// a client saves by calling again it saves only where that is provably safe.
type echo struct{ id func() string }

type echoServer interface {
	Say(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

func (e echo) Say(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(e.id()), nil
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "chaos.v1.Echo",
	HandlerType: (*echoServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Say",
		Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, req any) (any, error) {
				return srv.(echoServer).Say(ctx, req.(*wrapperspb.StringValue))
			}
			if interceptor == nil {
				return handler(ctx, in)
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/chaos.v1.Echo/Say"}, handler)
		},
	}},
}

// say calls the service and returns the ID of the instance that answered.
func say(ctx context.Context, cc grpc.ClientConnInterface) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, "/chaos.v1.Echo/Say", wrapperspb.String("who"), out)
	return out.GetValue(), err
}
