package client

import (
	"fmt"
	"net/rpc"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

// NetRPCOption changes what [Client.NetRPC] returns.
type NetRPCOption func(*netRPCOptions)

type netRPCOptions struct {
	path       string
	hijack     bool
	idempotent []string
	code       func(serviceMethod string, err rpc.ServerError) codes.Code
	middleware []middleware.Middleware
}

// WithRPCPath reaches the servers through HTTP, by CONNECT to the path that was
// given to rpc.Server.HandleHTTP; that of rpc.HandleHTTP is [rpc.DefaultRPCPath].
// The default is net/rpc on the bare TCP connection. A path that does not begin
// with "/", or with a character that a URL's path cannot have, is an error of
// [Client.NetRPC].
func WithRPCPath(path string) NetRPCOption {
	return func(o *netRPCOptions) { o.path, o.hijack = path, true }
}

// WithIdempotentMethods names methods, "Service.Method", whose calls may be sent
// twice; the default is none. What [middleware.WithIdempotency] says of a single
// call wins. Given several times it adds to what is there.
func WithIdempotentMethods(serviceMethods ...string) NetRPCOption {
	return func(o *netRPCOptions) { o.idempotent = append(o.idempotent, serviceMethods...) }
}

// WithServerErrorCode sets which code the errors have that methods return; the
// default is UNKNOWN for all, and so is what f returns codes.OK for. net/rpc brings
// over the text only, so f has to go by that. It is what keeps answers such as
// "no such user" (codes.NotFound) from being taken for a sick instance. f is
// called for each such error, concurrently. The error stays an [rpc.ServerError]
// with the same text.
func WithServerErrorCode(f func(serviceMethod string, err rpc.ServerError) codes.Code) NetRPCOption {
	return func(o *netRPCOptions) { o.code = f }
}

// WithNetRPCMiddleware is for net/rpc what [WithHTTPMiddleware] is for HTTP.
func WithNetRPCMiddleware(ms ...middleware.Middleware) NetRPCOption {
	return func(o *netRPCOptions) { o.middleware = append(o.middleware, ms...) }
}

func newNetRPCOptions(opts []NetRPCOption) (netRPCOptions, error) {
	var o netRPCOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.hijack {
		if err := checkPath(o.path); err != nil {
			return netRPCOptions{}, err
		}
	}
	for _, name := range o.idempotent {
		if i := strings.LastIndexByte(name, '.'); i <= 0 || i == len(name)-1 {
			return netRPCOptions{}, fmt.Errorf(`the idempotent method %q must be given as "Service.Method"`, name)
		}
	}
	return o, nil
}

// checkPath accepts what can stand in the first line of an HTTP request.
func checkPath(path string) error {
	bad := strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '?' || r == '#' })
	if bad >= 0 || !strings.HasPrefix(path, "/") {
		return fmt.Errorf(`the RPC path %q must begin with "/" and consist of characters of a URL's path`, path)
	}
	return nil
}

// idempotency looks a method up; the list is short.
func (o *netRPCOptions) idempotency(serviceMethod string) middleware.Idempotency {
	if slices.Contains(o.idempotent, serviceMethod) {
		return middleware.Idempotent
	}
	return middleware.IdempotencyUnknown
}

// codedError gives an error a code and leaves its text and chain as they are.
type codedError struct {
	err  error
	code codes.Code
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// GRPCStatus gives the error its code, for the status package of grpc.
func (e *codedError) GRPCStatus() *status.Status { return status.New(e.code, e.err.Error()) }
