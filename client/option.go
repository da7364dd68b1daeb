package client

import (
	"context"
	"errors"
	"net"

	"plinth.internal/middleware"
)

// Option changes how [New] makes a client.
type Option func(*options)

type options struct {
	outer    []middleware.Middleware
	settings func(service, method string) Settings
	dial     func(ctx context.Context, addr string) (net.Conn, error)
	events   func(Event)
}

// WithMiddleware puts middlewares around the client's own chain, the first one
// outermost: they see each call once, with all its attempts. Given several times
// it adds inside of what is there.
func WithMiddleware(outer ...middleware.Middleware) Option {
	return func(o *options) { o.outer = append(o.outer, outer...) }
}

// WithSettings sets where the settings of a call come from; the default is
// [DefaultSettings] for all. The function is asked for every call with the name
// of the service ("billing") and the method's own name ("Charge", for HTTP
// "GET"), twice and concurrently, so it should be a look-up; what it returns
// applies from that call on. A field that would not pass [Settings.Validate] is
// taken for its default.
func WithSettings(f func(service, method string) Settings) Option {
	return func(o *options) { o.settings = f }
}

// WithDialer sets how connections are made, for every transport; the default is
// TCP. The address is the endpoint as the registry gives it.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithEvents sets the function that is told what the client does and why; the
// default drops it. It is called concurrently, by the goroutine that the event
// is about, with no lock held.
func WithEvents(f func(Event)) Option {
	return func(o *options) { o.events = f }
}

// HTTPOption changes what [Client.HTTP] returns.
type HTTPOption func(*httpOptions)

type httpOptions struct{ middleware []middleware.Middleware }

// WithHTTPMiddleware puts middlewares inside of those of [WithMiddleware] and
// around the rest of the chain, for the requests of one HTTP client: a header
// that only this service wants, for example. They see each request once, with
// all its attempts. Given several times it adds inside of what is there. To a
// gRPC connection grpc.WithChainUnaryInterceptor adds an interceptor of its own,
// which sees each attempt.
func WithHTTPMiddleware(ms ...middleware.Middleware) HTTPOption {
	return func(o *httpOptions) { o.middleware = append(o.middleware, ms...) }
}

func newOptions(opts []Option) (options, error) {
	var d net.Dialer
	o := options{
		settings: func(string, string) Settings { return DefaultSettings() },
		dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", addr)
		},
		events: func(Event) {},
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.settings == nil || o.dial == nil || o.events == nil {
		return options{}, errors.New("an option was given a nil function")
	}
	return o, nil
}
