package middleware

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Validator says whether a message may reach its handler. An error that has a
// status is answered as it is; another one as INVALID_ARGUMENT with its text, which
// the caller reads. Validate may be called concurrently, and must neither change
// nor keep the message.
type Validator interface {
	Validate(m proto.Message) error
}

// ValidateUnary checks the requests of unary calls before their handlers see them.
// Payload work is no [Middleware], which never sees a payload: this is an
// interceptor for the inside of the chain. A message that is no proto.Message is
// not checked.
func ValidateUnary(v Validator) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if err := checkMessage(v, req); err != nil {
			return nil, err
		}
		return handle(ctx, req)
	}
}

// ValidateStream is [ValidateUnary] for streams: each message that a handler
// receives is checked. The first one that is wrong ends the stream with its error,
// whatever the handler makes of it: RecvMsg returns that error from then on.
func ValidateStream(v Validator) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		s := &validatedStream{ServerStream: ss, validator: v}
		err := handle(srv, s)
		if refused := s.refused.Load(); refused != nil {
			return *refused
		}
		return err
	}
}

// validatedStream may be received from in another goroutine than the handler's.
type validatedStream struct {
	grpc.ServerStream

	validator Validator
	refused   atomic.Pointer[error] // nil until a message was wrong
}

func (s *validatedStream) RecvMsg(m any) error {
	if refused := s.refused.Load(); refused != nil {
		return *refused
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	err := checkMessage(s.validator, m)
	if err != nil {
		s.refused.Store(&err)
	}
	return err
}

func checkMessage(v Validator, m any) error {
	pm, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	err := v.Validate(pm)
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return err
	}
	return status.Error(codes.InvalidArgument, err.Error())
}
