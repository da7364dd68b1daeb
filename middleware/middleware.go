// Package middleware holds the one shape that every cross-cutting concern of
// Plinth is written in, and the adapters that bind that shape to gRPC unary
// calls, gRPC streams and HTTP, on the server and on the client, and to net/rpc on
// the client.
//
// A concern (recovery, logging, metering, tracing, deadline, retry, ...) is
// written once as a [Middleware]. It sees the context, the call's metadata and
// its outcome, never the payload. A chain is folded once, when an adapter is
// built; a call runs through it without looking anything up.
//
// Guarantees:
//   - A [Handler] returns when the call is over. For a stream that is the end of
//     the stream, for an HTTP request on the client the end of the response
//     body; so what a middleware does after next is done at the true end.
//   - A [Call] belongs to one call and one goroutine at a time. It must not be
//     kept after the handler has returned.
//   - Response metadata set with [Call.SetReply] never makes a failing gRPC call
//     send early headers: it goes into the headers of a call that succeeds and
//     into the trailers of one that fails, so that peers which retry only
//     trailers-only responses can. [Call.SetTrailer] sends nothing early either.
//   - A key that ends in "-bin" holds bytes, over HTTP too: there the adapters
//     write them in base64, as gRPC itself does.
//   - The mapping between gRPC codes and HTTP statuses exists only here.
package middleware

import (
	"context"
	"slices"
	"time"
)

// Handler runs a call to its end and returns its outcome: nil, or an error
// whose code [Code] tells.
type Handler func(ctx context.Context, call *Call) error

// Middleware wraps a handler with one concern. It is called once, when a chain
// is folded; the handler it returns is called for every call, concurrently.
type Middleware func(next Handler) Handler

// Chain folds middlewares into one; the first one given is the outermost. Nil
// entries are passed over, and an empty chain changes nothing.
func Chain(ms ...Middleware) Middleware {
	return func(next Handler) Handler {
		for _, m := range slices.Backward(ms) {
			if m != nil {
				next = m(next)
			}
		}
		return next
	}
}

// Kind tells which side of which transport a call is on.
type Kind uint8

// The kinds of call. The zero Kind is none of them.
const (
	ServerUnary Kind = iota + 1
	ServerStream
	ServerHTTP
	ClientUnary
	ClientStream
	ClientHTTP
	ClientNetRPC
)

var kindNames = [...]string{"unknown", "server_unary", "server_stream", "server_http", "client_unary", "client_stream", "client_http", "client_netrpc"}

// String names the kind in snake_case, for logs.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

// Server reports whether the call was received rather than made.
func (k Kind) Server() bool { return k >= ServerUnary && k <= ServerHTTP }

// Stream reports whether the call is a gRPC stream.
func (k Kind) Stream() bool { return k == ServerStream || k == ClientStream }

// HTTP reports whether the call is a plain HTTP request.
func (k Kind) HTTP() bool { return k == ServerHTTP || k == ClientHTTP }

// Idempotency tells whether a call may be sent twice.
type Idempotency uint8

const (
	// IdempotencyUnknown means that nothing was declared: the call may have
	// effects that must not happen twice.
	IdempotencyUnknown Idempotency = iota
	// Idempotent means that sending the call twice has the effect of sending
	// it once.
	Idempotent
	// NoSideEffects means that the call only reads.
	NoSideEffects
)

// Safe reports whether a call that may have been processed can be sent again.
func (i Idempotency) Safe() bool { return i != IdempotencyUnknown }

type idempotencyKey struct{}

// WithIdempotency marks the calls that are made with the context, where the
// caller knows more than the proto's idempotency_level or the HTTP method
// declares. The mark wins over both; it does not make a request repeatable whose
// body cannot be had twice.
func WithIdempotency(ctx context.Context, i Idempotency) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, i)
}

// idempotency is the mark in ctx, else what was declared.
func idempotency(ctx context.Context, declared Idempotency) Idempotency {
	if i, ok := ctx.Value(idempotencyKey{}).(Idempotency); ok {
		return i
	}
	return declared
}

// Call is what a middleware may know of a call.
type Call struct {
	// Kind is the side and the transport.
	Kind Kind
	// Target is the name of the called service on the client, "" on a server.
	Target string
	// Service is the gRPC service ("orders.v1.Orders"), for net/rpc the name
	// before the dot ("Orders"). For HTTP it is the name of the service that
	// serves the request.
	Service string
	// Method is the gRPC or net/rpc method ("Get"). For HTTP it is the
	// route's pattern on a server and the request's method on a client:
	// bounded, never a URL.
	Method string
	// Idempotency is what the proto's idempotency_level option or the HTTP
	// method declares.
	Idempotency Idempotency
	// Start is when the call reached the adapter.
	Start time.Time
	// Attempts is how often the call was sent so far; the client's retry
	// middleware counts it. It is 0 on a server.
	Attempts int
	// Instance is the instance that handled the last attempt, set by the
	// client's balancer; "" where it is not known.
	Instance string
	// TraceID is the call's trace ID in hex, set by the tracing middleware for
	// those inside of it.
	TraceID string
	// Caller is who makes the call on a server, set by the auth middleware for
	// those around it, such as logging; "" where nobody knows. Those inside of it
	// ask [Caller].
	Caller string

	transport transport
	full      string // of gRPC, what FullMethod says; "" where it is put together
}

// transport is what an adapter lends to its calls.
type transport interface {
	peer() string
	header(key string) string
	setHeader(key, value string)
	reply(key string) string
	setReply(key, value string)
	setTrailer(key, value string)
	beforeReply(fn func())
	fork() (*Call, bool)
	adopt(fork *Call)
	run(ctx context.Context) error
}

// FullMethod names what is called without its parameters: "orders.v1.Orders/Get"
// for gRPC, "Orders/Get" for net/rpc, the method or route for HTTP.
func (c *Call) FullMethod() string {
	if c.full != "" {
		return c.full
	}
	if c.Kind.HTTP() || c.Service == "" {
		return c.Method
	}
	return c.Service + "/" + c.Method
}

// Peer is the address of the other side: the caller's on a server; on a client
// the address that was called last, "" where the transport does not tell.
func (c *Call) Peer() string { return c.transport.peer() }

// Header returns the first value of a request header (gRPC metadata or HTTP
// header), "" when it is absent. Keys are matched without regard to case.
func (c *Call) Header(key string) string { return c.transport.header(key) }

// SetHeader sets a header of the request on a client, for this attempt and those
// that follow; "" takes back what was set before. It has no effect on a server,
// nor after the request was sent.
func (c *Call) SetHeader(key, value string) { c.transport.setHeader(key, value) }

// Reply returns the first value of a response header (HTTP) or trailer (gRPC
// unary) that reached a client with the last attempt; "" before the response
// came, for streams, and for an HTTP response that was handed to the caller: it
// is the caller's then.
func (c *Call) Reply(key string) string { return c.transport.reply(key) }

// SetReply sets a header of the response on a server; see the package
// documentation for where it is put. On a client it has an effect on unary gRPC
// calls only, after they have gone well: a caller that wants the headers
// (grpc.Header) finds it among them, where the server has sent none of that key.
func (c *Call) SetReply(key, value string) { c.transport.setReply(key, value) }

// SetTrailer sets what a server says at the end of a call, after the outcome is
// known; the last value of a key counts. Over gRPC it goes into the trailers of
// unary calls and streams, whether they went well or not. Over HTTP it is a
// header of the response, and gets lost if that was begun before;
// [Call.BeforeReply] tells when. It has no effect on a client.
func (c *Call) SetTrailer(key, value string) { c.transport.setTrailer(key, value) }

// BeforeReply has fn run on a server just before the headers of the response
// leave, which is the last moment for [Call.SetReply]. It runs in the goroutine
// that answers, once, and not at all where the call is cut off before. It is
// never run on a client.
func (c *Call) BeforeReply(fn func()) { c.transport.beforeReply(fn) }

// Fork makes a copy of a client's call for one more attempt that runs at the
// same time as the call's own: next(ctx, fork) sends the request again. The copy
// has its own headers, which begin as those of the call, its own response and
// outcome, and an Attempts of 0. It costs little, so make it before the first
// attempt begins, whether it will be used or not: while an attempt runs, its
// Call belongs to that attempt alone.
//
// Fork reports false where the request cannot be sent twice at once or the
// response cannot be moved: on a server, for a stream, for an HTTP body that
// cannot be had again, for a gRPC reply that is not a proto.Message.
//
// Whoever forks waits until every attempt has returned, and then makes the best
// one's outcome the call's: by [Call.Adopt], or by doing nothing where it was
// the call's own. To end the attempt that is not needed any more it cancels that
// attempt's context. HTTP needs one thing more: the first attempt that gets a
// response hands it to the caller, and lasts as long as the body is read; all
// others then end with [ErrAnswered], also those that begin later, and are no
// outcome of the call.
func (c *Call) Fork() (*Call, bool) { return c.transport.fork() }

// Adopt makes the outcome of a fork of this call the outcome of the call: its
// response, reply metadata, peer and Instance. What the caller asked for with
// grpc.Header, grpc.Trailer, grpc.Peer and grpc.OnFinish is served from the
// fork. Its Attempts are added; those of a fork that is not adopted are the
// caller's to add. All attempts must have returned before. A fork is of no use
// after that, and one of another call is ignored.
func (c *Call) Adopt(fork *Call) {
	if fork == nil || fork == c {
		return
	}
	c.transport.adopt(fork)
}

// Replayable reports whether the request can be sent again as it was: not a
// stream, nor an HTTP body that cannot be had again. Whether it may be is
// another question; see Idempotency.
func (c *Call) Replayable() bool {
	if h, ok := c.transport.(*httpClientCall); ok {
		return h.replayable()
	}
	return c.Kind == ClientUnary || c.Kind == ClientNetRPC
}

// adopted takes over what every transport has.
func (c *Call) adopted(fork *Call) {
	c.Attempts += fork.Attempts
	c.Instance = fork.Instance
	c.Idempotency = fork.Idempotency
}

// end is the innermost handler: it lets the adapter do the call itself.
func end(ctx context.Context, call *Call) error { return call.transport.run(ctx) }
