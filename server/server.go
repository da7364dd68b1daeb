// Package server is the listening side of a process: gRPC, HTTP, and an admin
// listener for health, metrics and debugging.
//
// Guarantees:
//   - Nothing is accepted before [Server.Serve], and every listener is bound or
//     none is.
//   - One chain of middlewares serves gRPC unary calls, gRPC streams, HTTP, and
//     the gRPC methods that are called as REST or gRPC-Web; it runs once for each.
//   - A client of HTTP holds up nobody and nothing for long: headers, bodies and
//     the taking of responses are bounded in size and time ([HTTPConfig]).
//   - [Server.Stop] lets calls that have begun finish, up to the end of its
//     context; only then are they cut off. The admin listener stays up until
//     [Server.Close], so that a drain can be watched.
//   - The admin listener shows /debug/ and gRPC reflection only to those that
//     Config.Debug names; the port for calls offers neither unless asked.
//
// A caller that sends faster than handlers answer is held back by the flow
// control of HTTP/2 and TCP.
package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"plinth.internal/health"
	"plinth.internal/middleware"
)

// The names of the listeners, as in [Server.Endpoints].
const (
	GRPC  = "grpc"
	HTTP  = "http"
	Admin = "admin"
)

// Limits of connections. MinPing allows the pings of Plinth's clients (one in
// 10 s); the age makes clients of a load balancer without discovery spread out
// again.
const (
	MinPing            = 5 * time.Second
	MaxConnectionAge   = 30 * time.Minute
	MaxConnectionGrace = 30 * time.Second
	ReadHeaderTimeout  = 10 * time.Second
	IdleTimeout        = 2 * time.Minute
	maxHeaderBytes     = 64 << 10
)

// streamWorkers are the goroutines that wait for gRPC calls. Calls come in bursts,
// as many at once as a connection has delivered, and one that finds no worker
// waiting gets a goroutine of its own. With 256 calls at a time a quarter of a
// server's time goes into growing stacks without workers, an eighth with 32, and a
// twentieth with 128. One that waits takes some kilobytes.
const streamWorkers = 128

// How much a client may send over gRPC before the handler has read it: of one
// stream, and of all streams of a connection, in bytes. Left to itself grpc begins
// with 64 KiB, goes up to 16 MiB, and measures the connection with a ping every
// few calls, which costs a unary call a sixth of its time.
const (
	StreamWindow     = 1 << 20
	ConnectionWindow = 4 << 20
)

// Config is what a server is built from.
type Config struct {
	// Service is the name of the service, for metrics and errors.
	Service string
	// Addrs are the addresses to listen on by listener name, "host:port" each;
	// port 0 takes a free one. A listener without an address is off. Where HTTP has
	// the address of GRPC, with a port other than 0, one listener is both:
	// connections are told apart by what they begin with.
	Addrs map[string]string
	// Listeners take the place of Addrs for the listeners they are given for;
	// once New has returned a server, that closes them. The same one for GRPC and
	// HTTP is shared by both.
	Listeners map[string]net.Listener
	// Middleware is the chain around every call, the outermost first.
	Middleware []middleware.Middleware
	// Health answers grpc.health.v1; required.
	Health *health.Health
	// Admin are the pages of the admin listener by pattern; those below
	// /debug/ are guarded by Debug.
	Admin map[string]http.Handler
	// About says in a sentence what each of these pages shows, by path, and Status
	// how the process is: the index has both. Each may be nil.
	About  map[string]string
	Status func() string
	// Debug says who may read /debug/ and use reflection on the admin
	// listener: off, loopback or all; "" means loopback.
	Debug string
	// Reflection offers gRPC reflection on the port for calls, too.
	Reflection bool
	// HTTP is what is particular to the HTTP listener.
	HTTP HTTPConfig
	// TLS protects the listeners for gRPC and HTTP; nil leaves them plain.
	TLS *TLS
	// GRPCOptions are added to the server's own.
	GRPCOptions []grpc.ServerOption
	// UnaryPayload and StreamPayload see the messages of calls, which the
	// middlewares do not: validation, for instance. They run inside of everything
	// else, the first one outermost.
	UnaryPayload  []grpc.UnaryServerInterceptor
	StreamPayload []grpc.StreamServerInterceptor
	// Wrap is given the listeners for gRPC and HTTP by name once they are bound,
	// and returns what is accepted on in their place; nil leaves them as they are.
	Wrap func(name string, l net.Listener) net.Listener
}

// Server listens for one process.
type Server struct {
	cfg       Config
	grpc      *grpc.Server
	adminGRPC *grpc.Server
	http      *http.Server
	admin     *http.Server
	activity  *activity
	secure    *secure         // nil without TLS
	stopping  context.Context // ends with Stop
	endWatch  context.CancelFunc
	web       *web
	shared    bool // gRPC and HTTP are one listener
	directory func() directory

	mu        sync.Mutex
	routed    bool    // something was registered for HTTP
	errs      []error // of registrations, reported by Listen
	late      []error // of registrations after it, reported by Stop
	listeners map[string]net.Listener
	listening bool
	serving   bool
}

// New builds a server; it binds nothing yet.
func New(cfg Config) (*Server, error) {
	if cfg.Health == nil {
		return nil, errors.New("build server: Config.Health is missing")
	}
	s := &Server{
		cfg: cfg, activity: &activity{}, shared: cfg.sharesPort(),
		listeners: map[string]net.Listener{},
	}
	for name, l := range cfg.Listeners {
		if l != nil {
			s.listeners[name] = l
		}
	}
	if cfg.TLS != nil {
		var err error
		if s.secure, err = newSecure(*cfg.TLS); err != nil {
			return nil, err
		}
	}
	s.directory = sync.OnceValue(s.newDirectory)
	s.stopping, s.endWatch = context.WithCancel(context.Background())
	chain := append([]middleware.Middleware{s.activity.middleware}, cfg.Middleware...)
	s.cfg.Middleware = chain
	opts := append([]grpc.ServerOption{
		grpc.UnaryInterceptor(middleware.UnaryServer(chain...)),
		grpc.StreamInterceptor(s.nameUnmatched(middleware.StreamServer(chain...))),
		grpc.UnknownServiceHandler(s.unmatched),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: MinPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: MaxConnectionAge, MaxConnectionAgeGrace: MaxConnectionGrace}),
		grpc.InitialWindowSize(StreamWindow),
		grpc.InitialConnWindowSize(ConnectionWindow),
		// Left to itself grpc takes 16 MiB of headers, and waits two minutes for
		// the first bytes of a connection.
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(ReadHeaderTimeout),
	}, s.workers()...)
	opts = append(opts, cfg.GRPCOptions...)
	opts = append(opts, grpc.ChainUnaryInterceptor(cfg.UnaryPayload...), grpc.ChainStreamInterceptor(cfg.StreamPayload...))
	if s.secure != nil {
		opts = append(opts, grpc.Creds(newTransportCredentials()))
	}
	s.grpc = grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(s.grpc, healthServer{cfg.Health.GRPC(), s.stopping})
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	var err error
	if s.web, err = newWeb(&cfg, chain); err != nil {
		s.endWatch()
		s.grpc.Stop() // its workers run already
		return nil, err
	}
	s.http = s.web.server()
	s.adminGRPC = grpc.NewServer()
	if s.admin, err = s.newAdmin(); err != nil {
		s.endWatch()
		s.grpc.Stop() // its workers run already
		s.adminGRPC.Stop()
		return nil, err
	}
	return s, nil
}

// workers has calls taken by goroutines that keep their grown stacks; a new one for
// each call grows and copies its own. They begin to wait at once, so a server that
// takes no calls over gRPC has none.
func (s *Server) workers() []grpc.ServerOption {
	if !s.listens(GRPC) {
		return nil
	}
	return []grpc.ServerOption{grpc.NumStreamWorkers(streamWorkers)}
}

// listens tells whether there is, or will be, a listener of that name.
func (s *Server) listens(name string) bool {
	return s.cfg.Addrs[name] != "" || s.cfg.Listeners[name] != nil
}

// RegisterService makes Server a grpc.ServiceRegistrar. grpc itself ends the
// process on a registration that cannot be; here it becomes an error of
// [Server.Listen], or of [Server.Stop] where it comes after that.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening {
		s.failLockedf("register gRPC service %s: the server is listening already; register it during setup", desc.ServiceName)
		return
	}
	if _, taken := s.grpc.GetServiceInfo()[desc.ServiceName]; taken {
		s.failLockedf("register gRPC service %s: it is registered already", desc.ServiceName)
		return
	}
	if impl != nil && desc.HandlerType != nil {
		if want := reflect.TypeOf(desc.HandlerType).Elem(); !reflect.TypeOf(impl).Implements(want) {
			s.failLockedf("register gRPC service %s: %T does not implement %v", desc.ServiceName, impl, want)
			return
		}
	}
	s.grpc.RegisterService(desc, impl)
	s.web.local.RegisterService(desc, impl)
	s.cfg.Health.Serve(desc.ServiceName)
}

func (s *Server) failLockedf(format string, args ...any) {
	errs := &s.errs
	if s.listening {
		errs = &s.late
	}
	*errs = append(*errs, fmt.Errorf(format, args...))
}

// Listen binds all listeners, or none. It returns what was wrong with the
// registrations before it binds anything. It can be called once.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening {
		return errors.New("listen: the server is listening already")
	}
	s.checkHTTPLocked()
	if err := errors.Join(s.errs...); err != nil {
		return err
	}
	for _, name := range []string{GRPC, HTTP, Admin} {
		addr := s.cfg.Addrs[name]
		if s.shared && name == HTTP {
			s.listeners[HTTP] = s.listeners[GRPC]
		}
		if s.listeners[name] != nil || addr == "" {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			s.closeListenersLocked()
			return fmt.Errorf("listen for %s on %q: %w; set server.%s.addr to a free address", name, addr, err, name)
		}
		s.listeners[name] = l
	}
	for _, name := range []string{GRPC, HTTP} {
		if l := s.listeners[name]; l != nil && s.cfg.Wrap != nil {
			s.listeners[name] = s.cfg.Wrap(name, l)
		}
		if s.shared { // the one listener is wrapped once
			s.listeners[HTTP] = s.listeners[GRPC]
			break
		}
	}
	s.listening = true
	return nil
}

// closeListenersLocked closes what nothing is accepted on, for good.
func (s *Server) closeListenersLocked() {
	for _, l := range s.listeners {
		_ = l.Close() // nothing was accepted on it
	}
	clear(s.listeners)
	s.listening = false
}

// Endpoints are the bound addresses by listener name; empty before Listen.
func (s *Server) Endpoints() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	if s.listening {
		for name, l := range s.listeners {
			out[name] = l.Addr().String()
		}
	}
	return out
}

// Serve accepts on all listeners. It returns at once; failed receives the error
// of a listener that broke, which a healthy one never does. It does nothing
// before [Server.Listen] and after [Server.Stop], nor a second time.
func (s *Server) Serve(failed func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listening || s.serving {
		return
	}
	s.serving = true
	if s.secure != nil {
		go s.secure.follow(s.stopping)
	}
	accept := s.acceptLocked()
	run := func(name string, serve func(net.Listener) error) {
		l, ok := accept[name]
		if !ok {
			return
		}
		go func() {
			if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
				failed(fmt.Errorf("serve %s on %v: %w", name, l.Addr(), err))
			}
		}()
	}
	run(GRPC, s.grpc.Serve)
	run(HTTP, s.http.Serve)
	run(Admin, s.admin.Serve)
}

// acceptLocked are the listeners with what is between them and the servers: TLS,
// and the parting of connections where gRPC and HTTP share a port.
func (s *Server) acceptLocked() map[string]net.Listener {
	out := maps.Clone(s.listeners)
	if s.shared {
		l := out[GRPC]
		if s.secure != nil {
			l = s.secure.sharedListener(l)
		}
		port := newSharedPort(l)
		out[GRPC], out[HTTP] = port.sides[sideGRPC], port.sides[sideHTTP]
		return out
	}
	for _, name := range []string{GRPC, HTTP} {
		if l, ok := out[name]; ok && s.secure != nil {
			out[name] = s.secure.listener(name, l)
		}
	}
	return out
}

// LastCall is when a call last arrived, health checks and reflection left out;
// zero before the first one.
func (s *Server) LastCall() time.Time { return s.activity.lastCall() }

// InFlight is the number of calls that are not over, health checks and
// reflection left out.
func (s *Server) InFlight() int { return s.activity.grpcInFlight() + s.activity.httpInFlight() }

// Stop ends gRPC and HTTP: no new calls, calls that have begun may finish until
// ctx ends, then they are cut off and Stop returns an error that says how many.
// A handler that does not end with its context is left behind. Streams of
// grpc.health.v1 Watch have told that the process does not serve, and are ended
// at once.
func (s *Server) Stop(ctx context.Context) error {
	s.endWatch()
	s.mu.Lock()
	late := errors.Join(s.late...)
	if !s.serving {
		s.closeListenersLocked()
		s.mu.Unlock()
		return late
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	errs := []error{nil, nil, late}
	wg.Go(func() {
		done := make(chan struct{})
		go func() {
			s.grpc.GracefulStop()
			close(done)
		}()
		select {
		case <-done:
		case <-ctx.Done():
			errs[0] = fmt.Errorf("stop gRPC: %d calls were cut off: %w", s.activity.grpcInFlight(), context.Cause(ctx))
			// GracefulStop itself waits for handlers that do not look at
			// their context; it is left to them.
			s.grpc.Stop()
		}
	})
	wg.Go(func() {
		if s.http.Shutdown(ctx) != nil {
			n := s.activity.httpInFlight()
			errs[1] = errors.Join(fmt.Errorf("stop HTTP: %d requests were cut off: %w", n, context.Cause(ctx)), s.http.Close())
		}
	})
	wg.Wait()
	return errors.Join(errs...)
}

// Close ends everything at once, the admin listener included. It may be called
// more than once, and at any time.
func (s *Server) Close() error {
	s.endWatch()
	s.mu.Lock()
	if !s.serving {
		s.closeListenersLocked()
	}
	s.mu.Unlock()
	s.grpc.Stop()
	s.adminGRPC.Stop()
	return errors.Join(s.http.Close(), s.admin.Close())
}
