package framework_test

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echo is a gRPC service written by hand, so that the tests need no generated
// code: test.v1.Echo with a unary Say and a server stream Repeat.
type echo struct {
	say func(ctx context.Context, in string) (string, error)
}

type echoServer interface {
	Say(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

func (e echo) Say(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	out, err := e.say(ctx, in.GetValue())
	if err != nil {
		return nil, err
	}
	return wrapperspb.String(out), nil
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "test.v1.Echo",
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
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.v1.Echo/Say"}, handler)
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName: "Repeat", ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			in := new(wrapperspb.StringValue)
			if err := stream.RecvMsg(in); err != nil {
				return err
			}
			for range 3 {
				out, err := srv.(echoServer).Say(stream.Context(), in)
				if err != nil {
					return err
				}
				if err := stream.SendMsg(out); err != nil {
					return err
				}
			}
			return nil
		},
	}},
}

// say calls test.v1.Echo/Say.
func say(ctx context.Context, cc grpc.ClientConnInterface, in string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, "/test.v1.Echo/Say", wrapperspb.String(in), out, opts...)
	return out.GetValue(), err
}
