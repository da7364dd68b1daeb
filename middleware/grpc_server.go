package middleware

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// UnaryServer binds a chain to the unary calls of a gRPC server. Errors that
// leave the chain are turned into statuses by [Status].
func UnaryServer(chain ...Middleware) grpc.UnaryServerInterceptor {
	handler := Chain(chain...)(end)
	peers := new(peerNames)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, invoke grpc.UnaryHandler) (any, error) {
		c := &unaryServerCall{req: req, invoke: invoke}
		c.init(ctx, ServerUnary, info.FullMethod, peers, c)
		err := handler(ctx, &c.Call)
		c.finish(err)
		resp := c.resp
		c.req, c.resp = nil, nil // a context may keep the call, but not its messages
		if err != nil {
			return nil, Status(err).Err()
		}
		return resp, nil
	}
}

// StreamServer binds a chain to the streams of a gRPC server. The chain runs
// once for each stream, not for each message.
func StreamServer(chain ...Middleware) grpc.StreamServerInterceptor {
	handler := Chain(chain...)(end)
	peers := new(peerNames)
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, invoke grpc.StreamHandler) error {
		ctx := ss.Context()
		c := &streamServerCall{srv: srv, invoke: invoke}
		c.init(ctx, ServerStream, info.FullMethod, peers, c)
		c.stream = serverStream{ServerStream: ss, call: c}
		err := handler(ctx, &c.Call)
		c.finish(err)
		if err != nil {
			return Status(err).Err()
		}
		return nil
	}
}

// grpcServerCall is what unary calls and streams share on a server.
type grpcServerCall struct {
	Call

	incoming incoming        // carries metadata, peer and the transport stream
	values   [2]valueContext // what WithValue has room for
	peers    *peerNames
	beside   *beside // nil for nothing, as in most calls
}

// beside is what a call says beside its outcome.
type beside struct {
	replies  pairs
	trailers pairs
	space    [2][2]string // of the first of each
	leaving  []func()     // what BeforeReply was given
}

func (c *grpcServerCall) toSay() *beside {
	if c.beside == nil {
		b := new(beside)
		b.replies, b.trailers = b.space[0][:0], b.space[1][:0]
		c.beside = b
	}
	return c.beside
}

func (c *grpcServerCall) init(ctx context.Context, kind Kind, fullMethod string, peers *peerNames, t transport) {
	c.Kind = kind
	c.Service, c.Method = SplitMethod(fullMethod)
	c.full = strings.TrimPrefix(fullMethod, "/")
	c.Start = time.Now()
	c.transport = t
	c.peers = peers
	c.incoming.init(ctx)
}

func (c *grpcServerCall) peer() string {
	if p, ok := peer.FromContext(c.incoming.Context); ok {
		return c.peers.of(p.Addr)
	}
	return ""
}

func (c *grpcServerCall) header(key string) string {
	return c.incoming.header(key)
}

func (c *grpcServerCall) setHeader(string, string)   {}
func (c *grpcServerCall) reply(string) string        { return "" }
func (c *grpcServerCall) setReply(key, value string) { c.toSay().replies.add(key, value) }
func (c *grpcServerCall) fork() (*Call, bool)        { return nil, false }
func (c *grpcServerCall) adopt(*Call)                {}

func (c *grpcServerCall) setTrailer(key, value string) {
	c.toSay().trailers.set(strings.ToLower(key), value)
}

func (c *grpcServerCall) beforeReply(fn func()) {
	b := c.toSay()
	b.leaving = append(b.leaving, fn)
}

// finish sends what there is to say beside the outcome.
func (c *grpcServerCall) finish(err error) {
	if err != nil && IsNoRetry(err) {
		c.setReply(HeaderNoRetry, "1")
	}
	c.flush(err == nil)
	if c.beside != nil && len(c.beside.trailers) > 0 {
		md := newReplyMD(c.beside.trailers)
		_ = grpc.SetTrailer(c.incoming.Context, md.MD) // errs only where the stream is gone, and its reader
		md.free()
	}
}

// flush puts the reply metadata into the headers of a call that goes well and
// whose handler has not sent them itself, else into the trailers. An error of
// those means that the stream is gone, and with it the reader of the metadata.
func (c *grpcServerCall) flush(ok bool) {
	b := c.beside
	if b == nil {
		return
	}
	runAll(&b.leaving)
	if len(b.replies) == 0 {
		return
	}
	md := newReplyMD(b.replies)
	b.replies = nil
	if !ok || grpc.SetHeader(c.incoming.Context, md.MD) != nil {
		_ = grpc.SetTrailer(c.incoming.Context, md.MD)
	}
	md.free()
}

type unaryServerCall struct {
	grpcServerCall

	req, resp any
	invoke    grpc.UnaryHandler
}

func (c *unaryServerCall) run(ctx context.Context) (err error) {
	c.resp, err = c.invoke(ctx, c.req)
	return err
}

type streamServerCall struct {
	grpcServerCall

	srv    any
	invoke grpc.StreamHandler
	stream serverStream
}

func (c *streamServerCall) run(ctx context.Context) error {
	c.stream.ctx = ctx //nolint:fatcontext // the stream is this call's own
	return c.invoke(c.srv, &c.stream)
}

// serverStream gives the handler the chain's context and puts the reply
// metadata into the headers just before they leave.
type serverStream struct {
	grpc.ServerStream

	ctx  context.Context
	call *streamServerCall
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SendHeader(md metadata.MD) error {
	s.call.flush(true)
	return s.ServerStream.SendHeader(md)
}

func (s *serverStream) SendMsg(m any) error {
	s.call.flush(true)
	return s.ServerStream.SendMsg(m)
}

// Unmatched is [Call.Method] of what the caller asks for and the service does not
// have, over gRPC and HTTP alike: a name that anybody can make up is no label.
const Unmatched = "unmatched"

// SplitMethod cuts "/orders.v1.Orders/Get" into service and method. What does
// not have that form is a method without a service.
func SplitMethod(fullMethod string) (service, method string) {
	s := strings.TrimPrefix(fullMethod, "/")
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}
