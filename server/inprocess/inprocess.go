// Package inprocess calls gRPC handlers that are registered in this process, with
// no network and no encoding between the caller and the handler.
//
// A handler finds what it would find over gRPC: metadata, peer, deadline, and
// grpc.SetHeader, grpc.SendHeader and grpc.SetTrailer work. The values of the
// caller's context are the handler's, so that what middlewares around the caller
// have put there is there.
//
// Guarantees:
//   - A unary call runs in the caller's goroutine and has no end before the
//     handler returns, whatever the context says.
//   - A stream's handler has a goroutine of its own. [Conn.NewStream]'s context
//     ends it; [Wait] waits until it has returned. Its panic is the stream's
//     error, a [middleware.PanicError].
//   - The handler's error is the caller's as it is, not only its status.
//   - No middleware runs, only the interceptors for payloads that [New] is given.
//
// Services are registered before the first call, by one goroutine at a time.
package inprocess

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Handlers are the registered services.
type Handlers struct {
	unary    grpc.UnaryServerInterceptor // nil for none
	stream   grpc.StreamServerInterceptor
	methods  map[string]method // by full name, "/shop.v1.Orders/Get"
	services []string
}

type method struct {
	full   string
	impl   any
	unary  *grpc.MethodDesc // either this
	stream *grpc.StreamDesc // or this
}

// New builds an empty set of handlers. The interceptors run around each of them,
// the first one outermost.
func New(unary []grpc.UnaryServerInterceptor, stream []grpc.StreamServerInterceptor) *Handlers {
	return &Handlers{unary: chainUnary(unary), stream: chainStream(stream), methods: map[string]method{}}
}

// RegisterService makes Handlers a grpc.ServiceRegistrar. It checks nothing: a
// grpc.Server that is given the same services does.
func (h *Handlers) RegisterService(desc *grpc.ServiceDesc, impl any) {
	h.services = append(h.services, desc.ServiceName)
	for i := range desc.Methods {
		m := &desc.Methods[i]
		full := "/" + desc.ServiceName + "/" + m.MethodName
		h.methods[full] = method{full: full, impl: impl, unary: m}
	}
	for i := range desc.Streams {
		m := &desc.Streams[i]
		full := "/" + desc.ServiceName + "/" + m.StreamName
		h.methods[full] = method{full: full, impl: impl, stream: m}
	}
}

// Services are the names of the registered services, in their order.
func (h *Handlers) Services() []string { return h.services }

// Methods are the full names of all methods, "/shop.v1.Orders/Get", in no order.
func (h *Handlers) Methods() []string { return slices.Collect(maps.Keys(h.methods)) }

// Has reports whether there is a handler for a method, by its full name such as
// "/shop.v1.Orders/Get".
func (h *Handlers) Has(fullMethod string) bool {
	_, ok := h.methods[fullMethod]
	return ok
}

// Serve runs the handler of a method on a stream that the caller implements, and
// returns its error when it has returned. A method that nobody registered is
// UNIMPLEMENTED. The stream's context is the handler's: its incoming metadata and
// peer are what the handler sees.
func (h *Handlers) Serve(fullMethod string, ss grpc.ServerStream) error {
	m, ok := h.methods[fullMethod]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", fullMethod)
	}
	ctx := grpc.NewContextWithServerTransportStream(ss.Context(), transportStream{m.full, ss})
	if m.stream != nil {
		wrapped := serverStream{ss, ctx}
		if h.stream == nil {
			return m.stream.Handler(m.impl, wrapped)
		}
		info := &grpc.StreamServerInfo{FullMethod: m.full, IsClientStream: m.stream.ClientStreams, IsServerStream: m.stream.ServerStreams}
		return h.stream(m.impl, wrapped, info, m.stream.Handler)
	}
	read := func(v any) error {
		err := ss.RecvMsg(v)
		if errors.Is(err, io.EOF) {
			return status.Error(codes.InvalidArgument, "the request has no message")
		}
		return err
	}
	out, err := m.unary.Handler(m.impl, ctx, read, h.unary)
	if err != nil {
		return err
	}
	return ss.SendMsg(out)
}

// serverStream gives a handler its context.
type serverStream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }

// transportStream is what grpc.SetHeader and its like look for in a context.
type transportStream struct {
	method string
	stream grpc.ServerStream
}

func (t transportStream) Method() string                  { return t.method }
func (t transportStream) SetHeader(md metadata.MD) error  { return t.stream.SetHeader(md) }
func (t transportStream) SendHeader(md metadata.MD) error { return t.stream.SendHeader(md) }

func (t transportStream) SetTrailer(md metadata.MD) error {
	t.stream.SetTrailer(md)
	return nil
}

func chainUnary(list []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	first, rest := list[0], chainUnary(list[1:])
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return first(ctx, req, info, func(ctx context.Context, req any) (any, error) { return rest(ctx, req, info, handler) })
	}
}

func chainStream(list []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	first, rest := list[0], chainStream(list[1:])
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return first(srv, ss, info, func(srv any, ss grpc.ServerStream) error { return rest(srv, ss, info, handler) })
	}
}
