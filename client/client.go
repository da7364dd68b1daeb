package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// ErrClosed is the error of using a client after [Client.Close].
var ErrClosed = errors.New("the client is closed")

// Client makes connections to services. Use [New].
type Client struct {
	// Set at construction, never changed.
	registry *registry.Registry
	options  options
	ctx      context.Context // ends with Close: the life of everything below
	cancel   context.CancelFunc

	wg     sync.WaitGroup // the watches of services
	recent recentEvents   // for Explain
	tls    tlsKeeper

	mu       sync.Mutex
	closed   bool
	services map[string]*service
	conns    []*grpc.ClientConn
	upgraded map[*upgraded]struct{}
}

// New returns a client that finds services through reg. It starts nothing and
// connects to nothing. The registry is the caller's to close, after the client.
func New(reg *registry.Registry, opts ...Option) (*Client, error) {
	if reg == nil {
		return nil, errors.New("make client: the registry is nil")
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	c := &Client{registry: reg, options: o, services: map[string]*service{}, upgraded: map[*upgraded]struct{}{}}
	c.options.events = c.recent.before(o.events)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Conn returns a connection to a service. It does not wait: connecting goes on
// in the background, and whatever the registry or the instances do, the
// connection stays good and recovers by itself.
//
// Without options all callers share one connection for each service. With
// options, which are applied after the client's own, the connection is a new
// one with the same retry budget, breakers and records of instances. The client
// closes them all; a connection without options must not be closed by its users.
//
// It is an error if the name is not a service name, if the client is closed, or
// if nothing in the process resolves the target that [WithTargets] gives.
func (c *Client) Conn(service string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.serviceLocked(service)
	if err != nil {
		return nil, fmt.Errorf("connect to service %q: %w", service, err)
	}
	if len(opts) == 0 && s.conn != nil {
		return s.conn, nil
	}
	target, own, err := s.destination()
	if err != nil {
		return nil, fmt.Errorf("connect to service %q: %w", service, err)
	}
	conn, err := grpc.NewClient(target, append(own, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to service %q: %w", service, err)
	}
	// Start to watch and to connect now: the first call should not pay for it.
	conn.Connect()
	c.conns = append(c.conns, conn)
	if len(opts) == 0 {
		s.conn = conn
	}
	return conn, nil
}

// HTTP returns an HTTP client for a service; its URLs are http://<service>/path.
// Requests to another host fail: a redirect cannot lead out of the service. It
// does not wait. If the name is not a service name, or if the client is closed,
// every request fails with an error that says so.
//
// Options change this HTTP client only. All HTTP clients of a service share its
// connections, retry budget, breakers and records of instances.
//
// The returned client is the caller's to change (Jar, CheckRedirect) but for the
// Transport. Its Timeout is 0: the deadline of [Settings] is applied instead.
func (c *Client) HTTP(service string, opts ...HTTPOption) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.serviceLocked(service)
	if err != nil {
		return &http.Client{Transport: failingTransport{fmt.Errorf("call service %q: %w", service, err)}}
	}
	var o httpOptions
	for _, opt := range opts {
		opt(&o)
	}
	return &http.Client{Transport: &httpTransport{
		service: s.name,
		chain:   middleware.RoundTripper(s.name, &httpBase{service: s}, s.apart(o.middleware)...),
	}}
}

// Close closes all connections and ends everything the client has started; it
// returns when that has ended. Calls in flight fail with CANCELED, so it is
// to be called when there are none. Connections that a response has made the
// caller's, such as WebSockets, are closed too. It is safe to call it again.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	services := slices.Collect(maps.Values(c.services)) // no more are made
	taken := slices.Collect(maps.Keys(c.upgraded))      // likewise
	c.mu.Unlock()

	c.cancel()
	for _, s := range services {
		s.netrpcHome.close()
	}
	for _, u := range taken {
		_ = u.Close()
	}
	var errs []error
	for _, conn := range conns {
		// A user may have closed a connection that was made with options: then
		// the code is CANCELED.
		if err := conn.Close(); err != nil && middleware.Code(err) != codes.Canceled {
			errs = append(errs, fmt.Errorf("close connection to %s: %w", conn.Target(), err))
		}
	}
	c.wg.Wait()
	for _, s := range services {
		s.httpView.current.Load().release(nil)
	}
	return errors.Join(errs...)
}

// watch starts a watch of a service that ends with ctx or with the client. It
// reports false, and starts nothing, if the client is closed.
func (c *Client) watch(f func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(func() { f(c.ctx) })
	return true
}

func (c *Client) serviceLocked(name string) (*service, error) {
	if c.closed {
		return nil, ErrClosed
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s := c.services[name]
	if s == nil {
		s = newService(c, name)
		c.services[name] = s
	}
	return s, nil
}

// CheckName returns an error for a name that no service can be called by: it must be
// both a name in the registry and a host in a URL.
func CheckName(name string) error {
	const longest = 253 // of a host name
	if name == "" {
		return errors.New("the name is empty")
	}
	if len(name) > longest {
		return fmt.Errorf("the name has %d bytes, must have at most %d", len(name), longest)
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
	if bad >= 0 || name[0] == '.' {
		return errors.New(`the name must consist of letters, digits, "-", "_" and ".", and must not begin with "."; it is a name in the registry, not an address`)
	}
	return nil
}
