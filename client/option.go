package client

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"

	"plinth.internal/middleware"
)

// Option changes how [New] makes a client.
type Option func(*options)

type options struct {
	outer     []middleware.Middleware
	settings  func(service, method string) Settings
	dial      func(ctx context.Context, addr string) (net.Conn, error)
	events    func(Event)
	token     func(ctx context.Context, service string) (string, error) // nil for none
	userAgent string
	caller    string
	zone      string
	id        string

	agentNames bool // the user agent says the caller's name

	targets     func(service string) string
	targetCreds func(own credentials.TransportCredentials) (credentials.TransportCredentials, error)
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

// WithZone says in which zone the client is, as instances do in their registry
// entries ([registry.Instance].Zone). Calls stay in the zone while it does well;
// see [Settings.ZoneFactor]. "", the default, means that it is not known, and that
// zones do not matter, as they do not for an instance that names none.
func WithZone(zone string) Option {
	return func(o *options) { o.zone = zone }
}

// WithID says who the client is, for the choice of the instances that it keeps to
// where there are many; see [Settings.Subset]. It should be the same after a
// restart, so that not every client connects elsewhere when the clients are
// restarted, and another one for each process, as clients of the same ID share a
// subset. IDs that end in a number that counts ("web-17") make the connections of
// the instances more even than others can; see package subset. The default, and
// the meaning of "", is the program's name and the host's.
func WithID(id string) Option {
	return func(o *options) { o.id = id }
}

// WithUserAgent sets what gRPC connections call themselves, before grpc's own name.
// The default is nothing. Package middleware/tracing gives a meaning to one.
func WithUserAgent(name string) Option {
	return func(o *options) { o.userAgent = name }
}

// WithTargets has gRPC connections to services go to a target of grpc's own,
// such as xds:///orders or dns:///orders.example:9000, in place of the instances
// that the registry knows; the default, and the answer "", is the registry. The
// function is asked once for each service. Package plinth.internal/client/xds
// makes xds:/// known to grpc, and says what a client still does for such a
// service and what it leaves to the mesh. HTTP and net/rpc are not affected.
// Given several times the last one counts.
func WithTargets(f func(service string) string) Option {
	return func(o *options) { o.targets = f }
}

// WithTargetCredentials sets the credentials of the connections that go to the
// targets of [WithTargets], made from the client's own, which are those of
// [Settings.TLS] and the default. Package plinth.internal/client/xds has those
// that let the mesh decide. The function is asked for every [Client.Conn], which
// fails with its error.
func WithTargetCredentials(f func(own credentials.TransportCredentials) (credentials.TransportCredentials, error)) Option {
	return func(o *options) { o.targetCreds = f }
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
		events:  func(Event) {},
		targets: func(string) string { return "" },
		targetCreds: func(own credentials.TransportCredentials) (credentials.TransportCredentials, error) {
			return own, nil
		},
	}
	for _, opt := range opts {
		opt(&o)
	}
	if err := o.name(); err != nil {
		return options{}, err
	}
	if o.id == "" {
		o.id = defaultID()
	}
	if o.settings == nil || o.dial == nil || o.events == nil || o.targets == nil || o.targetCreds == nil {
		return options{}, errors.New("an option was given a nil function")
	}
	return o, nil
}
