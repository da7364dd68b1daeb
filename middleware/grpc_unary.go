package middleware

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// UnaryClient binds a chain to the unary calls that a client makes to the
// service named target. A middleware may call next several times; each time is
// an attempt with the same request.
func UnaryClient(target string, chain ...Middleware) grpc.UnaryClientInterceptor {
	return ReportedUnaryClient(target, nil, chain...)
}

// Reported is what a balancer knows of an attempt that has ended: the address that
// it was sent to, "" for none, and the trailer that came back.
type Reported func(ctx context.Context) (addr string, trailer metadata.MD)

// ReportedUnaryClient is [UnaryClient] for a connection whose balancer can tell what
// came of an attempt. It is asked with the context that the innermost middleware has
// made the attempt with, and grpc is not asked for the same once more, which costs
// each call two allocations. Nil is [UnaryClient].
func ReportedUnaryClient(target string, reported Reported, chain ...Middleware) grpc.UnaryClientInterceptor {
	handler := Chain(chain...)(end)
	methods := new(methodTable)
	return func(ctx context.Context, fullMethod string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		m := methods.get(fullMethod)
		c := &unaryClientCall{info: m, req: req, resp: reply, cc: cc, invoke: invoke, opts: opts, reported: reported}
		c.init(ctx, ClientUnary, target, m, c)
		return withStatus(handler(ctx, &c.Call))
	}
}

type unaryClientCall struct {
	grpcClientCall

	info      *methodInfo
	req, resp any // of a fork resp is made when it runs
	cc        *grpc.ClientConn
	invoke    grpc.UnaryInvoker
	opts      []grpc.CallOption
	reported  Reported     // nil where grpc is asked
	forked    *forkedUnary // nil on the call itself

	// Of the last attempt.
	addr    string     // as it was reported
	asked   *peer.Peer // as grpc tells, nil where it is not asked
	trailer metadata.MD
}

func (c *unaryClientCall) peer() string {
	if c.asked != nil {
		return addrString(c.asked.Addr)
	}
	return c.addr
}

func (c *unaryClientCall) reply(key string) string {
	if v := c.trailer.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c *unaryClientCall) setReply(key, value string) {
	for _, opt := range c.opts {
		h, ok := opt.(grpc.HeaderCallOption)
		if !ok || len(h.HeaderAddr.Get(key)) > 0 {
			continue
		}
		if *h.HeaderAddr == nil {
			*h.HeaderAddr = metadata.MD{}
		}
		h.HeaderAddr.Set(key, value)
	}
}

func (c *unaryClientCall) run(ctx context.Context) error {
	f := c.forked
	if f == nil {
		return c.attempt(ctx, c.opts)
	}
	if c.resp == nil {
		c.resp = f.reply.New().Interface()
	}
	f.outcome = c.attempt(ctx, f.wanted(c.opts))
	return f.outcome
}

// attempt sends the request, and notes what came of it.
func (c *unaryClientCall) attempt(ctx context.Context, opts []grpc.CallOption) error {
	c.trailer = nil
	if c.reported == nil {
		if c.asked == nil {
			c.asked = new(peer.Peer)
		}
		opts = append(slices.Clip(opts), grpc.Trailer(&c.trailer), grpc.Peer(c.asked))
	}
	err := c.invoke(c.outgoing(ctx), c.info.fullMethod, c.req, c.resp, c.cc, opts...)
	if c.reported != nil {
		var addr string
		if addr, c.trailer = c.reported(ctx); addr != "" {
			c.addr = addr
		}
	}
	return err
}
