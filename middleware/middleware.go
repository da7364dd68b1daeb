// Package middleware holds the one shape that every cross-cutting concern of
// Plinth is written in, and the adapters that bind that shape to gRPC unary
// calls, gRPC streams and HTTP, on the server and on the client.
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
//     trailers-only responses can.
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
)

var kindNames = [...]string{"unknown", "server_unary", "server_stream", "server_http", "client_unary", "client_stream", "client_http"}

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
	// Service is the gRPC service ("orders.v1.Orders"). For HTTP it is the
	// name of the service that serves the request.
	Service string
	// Method is the gRPC method ("Get"). For HTTP it is the route's pattern on
	// a server and the request's method on a client: bounded, never a URL.
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

	transport transport
}

// transport is what an adapter lends to its calls.
type transport interface {
	peer() string
	header(key string) string
	setHeader(key, value string)
	reply(key string) string
	setReply(key, value string)
	run(ctx context.Context) error
}

// FullMethod names what is called without its parameters: "orders.v1.Orders/Get"
// for gRPC, the method or route for HTTP.
func (c *Call) FullMethod() string {
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

// SetHeader sets a header of the request on a client. It has no effect on a
// server, nor after the request was sent.
func (c *Call) SetHeader(key, value string) { c.transport.setHeader(key, value) }

// Reply returns the first value of a response header (HTTP) or trailer (gRPC
// unary) that reached a client; "" before the response came, and for streams.
func (c *Call) Reply(key string) string { return c.transport.reply(key) }

// SetReply sets a header of the response on a server; see the package
// documentation for where it is put. It has no effect on a client.
func (c *Call) SetReply(key, value string) { c.transport.setReply(key, value) }

// end is the innermost handler: it lets the adapter do the call itself.
func end(ctx context.Context, call *Call) error { return call.transport.run(ctx) }
