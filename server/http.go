package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"plinth.internal/middleware"
	"plinth.internal/server/gateway"
	"plinth.internal/server/grpcweb"
	"plinth.internal/server/inprocess"
)

// Limits of HTTP; see [HTTPConfig].
const (
	DefaultMaxBody      = 4 << 20
	DefaultReadTimeout  = 30 * time.Second
	DefaultWriteTimeout = 30 * time.Second
)

// HTTPConfig is what is particular to the HTTP listener.
type HTTPConfig struct {
	// MaxBody bounds the body of a request, in bytes: a larger one is answered
	// with 413. 0 means [DefaultMaxBody], below zero no limit.
	MaxBody int64
	// ReadTimeout is how long reading a body may wait for the client; a second
	// more is given for every [MinRate] bytes that have come. Then the request is
	// answered with 408. 0 means [DefaultReadTimeout], below zero no limit.
	ReadTimeout time.Duration
	// WriteTimeout is how long the client may take no byte of a response before
	// the response is cut off. How long a handler takes, and a stream lasts, it
	// does not bound. 0 means [DefaultWriteTimeout], below zero no limit.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a request; 0 means
	// [IdleTimeout].
	IdleTimeout time.Duration
	// GRPCWeb answers calls of gRPC-Web, which browsers can make.
	GRPCWeb bool
	// CORS says which pages of other origins may call; nil means none.
	CORS *CORS
}

func (c *HTTPConfig) fill() {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = DefaultReadTimeout
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = DefaultWriteTimeout
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = IdleTimeout
	}
}

// web is the HTTP side of a server.
type web struct {
	cfg       HTTPConfig
	service   string
	chain     []middleware.Middleware
	mux       *http.ServeMux
	handled   []handled
	local     *inprocess.Handlers
	gateway   *gateway.Gateway // nil without routes of gRPC methods
	calls     map[string]http.Handler
	noCall    http.Handler // gRPC-Web for a method that is not there
	unmatched http.Handler
}

func newWeb(cfg *Config, chain []middleware.Middleware) (*web, error) {
	w := &web{
		cfg: cfg.HTTP, service: cfg.Service, chain: chain, mux: http.NewServeMux(),
		local: inprocess.New(cfg.UnaryPayload, cfg.StreamPayload), calls: map[string]http.Handler{},
	}
	w.cfg.fill()
	if cors := w.cfg.CORS; cors != nil {
		if err := cors.Validate(); err != nil {
			return nil, fmt.Errorf("build server: %w", err)
		}
	}
	w.unmatched = middleware.HTTPServerFunc(w.service, middleware.Unmatched, w.guard(w.nothing), nil, chain...)
	return w, nil
}

// handle routes a pattern of http.ServeMux to h.
func (w *web) handle(pattern string, h http.Handler) error {
	place := callerOutside()
	if f, ok := h.(http.HandlerFunc); h == nil || ok && f == nil {
		return fmt.Errorf("handle HTTP pattern %q: %s: the handler is nil", pattern, place)
	}
	serve := w.guard(func(rw http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(rw, r)
		return nil
	})
	if err := muxHandle(w.mux, pattern, middleware.HTTPServerFunc(w.service, pattern, serve, nil, w.chain...)); err != nil {
		return fmt.Errorf("handle HTTP pattern %q: %s: %w", pattern, place, w.explain(pattern, err))
	}
	w.handled = append(w.handled, handled{pattern, place})
	return nil
}

// register adds routes of gRPC methods.
func (w *web) register(ctx context.Context, fn gateway.Register) error {
	if w.gateway == nil {
		w.gateway = gateway.New(gateway.Config{
			Conn:   gateway.Guard(w.local.Conn()),
			Around: func(method string, serve middleware.HTTPHandler) http.Handler { return w.around(method, serve, nil) },
			Unmatched: func(rw http.ResponseWriter, r *http.Request, status int) {
				w.unmatched.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), routingKey{}, status)))
			},
		})
	}
	return w.gateway.Register(ctx, fn)
}

// finish is called once everything is registered.
func (w *web) finish() error {
	if w.gateway != nil {
		if err := w.gateway.Describe(w.local.Services()); err != nil {
			return err
		}
	}
	if !w.cfg.GRPCWeb {
		return nil
	}
	call := func(rw http.ResponseWriter, r *http.Request) error {
		return grpcweb.Serve(w.local, r.URL.Path, rw, r)
	}
	w.noCall = w.around(middleware.Unmatched, call, grpcweb.Fail)
	for _, method := range w.local.Methods() {
		w.calls[method] = w.around(method[1:], call, grpcweb.Fail)
	}
	return nil
}

// around puts everything around the call of a gRPC method: the limits of HTTP,
// the middlewares, and what the handler is to know of the caller. The call is
// over when the handler of a stream has returned.
func (w *web) around(method string, serve middleware.HTTPHandler, fail middleware.HTTPFailure) http.Handler {
	guarded := w.guard(func(rw http.ResponseWriter, r *http.Request) error {
		ctx, wait := inprocess.Wait(r.Context())
		ctx, cancel := context.WithCancel(ctx)
		defer wait()
		defer cancel()
		return serve(rw, r.WithContext(peer.NewContext(ctx, peerOf(r))))
	})
	return middleware.HTTPServerFunc(w.service, method, guarded, fail, w.chain...)
}

// handler is what the HTTP listener serves.
func (w *web) handler() http.Handler {
	var h http.Handler = http.HandlerFunc(w.route)
	if w.cfg.CORS != nil {
		h = w.cfg.CORS.handler(h)
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			r.TLS = stateOf(r.Context())
		}
		if r.ProtoMajor == 1 {
			w.bound(rw, r)
		}
		h.ServeHTTP(rw, r)
	})
}

// route sends requests that match nothing through the middlewares, too, so that
// they are seen in logs and metrics.
func (w *web) route(rw http.ResponseWriter, r *http.Request) {
	if w.cfg.GRPCWeb && grpcweb.Is(r) {
		h := w.calls[r.URL.Path]
		if h == nil {
			h = w.noCall
		}
		h.ServeHTTP(rw, r)
		return
	}
	if _, pattern := w.mux.Handler(r); pattern != "" {
		w.mux.ServeHTTP(rw, r)
		return
	}
	if w.gateway != nil {
		w.gateway.ServeHTTP(rw, r)
		return
	}
	w.unmatched.ServeHTTP(rw, r)
}

type routingKey struct{}

// nothing answers what no route matches: 404, or 405 where another verb has one,
// or a redirection to the same path written cleanly.
func (w *web) nothing(rw http.ResponseWriter, r *http.Request) error {
	if r.RequestURI == "*" { // as http.ServeMux answers it, which is only looked at here
		return &middleware.HTTPError{Status: http.StatusBadRequest, Message: "* is no path"}
	}
	h, _ := w.mux.Handler(r)
	probe := &probe{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(probe, r)
	status := probe.status
	if status < http.StatusBadRequest {
		h.ServeHTTP(rw, r)
		return nil
	}
	if allow := probe.header["Allow"]; allow != nil {
		rw.Header()["Allow"] = allow
	} else if other, ok := r.Context().Value(routingKey{}).(int); ok {
		status = other
	}
	text := "there is no route for " + r.Method + " " + r.URL.Path
	switch status {
	case http.StatusMethodNotAllowed:
		text = "the path " + r.URL.Path + " is not there for " + r.Method
	case http.StatusBadRequest:
		text = "the path " + r.URL.Path + " is not well formed"
	}
	return &middleware.HTTPError{Status: status, Message: text}
}

// probe finds out what a handler would answer.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// peerOf is the caller as a gRPC handler knows it.
func peerOf(r *http.Request) *peer.Peer {
	p := &peer.Peer{Addr: textAddr(r.RemoteAddr)}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p.Addr = net.TCPAddrFromAddrPort(ap)
	}
	p.LocalAddr, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State: *r.TLS, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	return p
}

// textAddr is the address of a connection that is none of TCP.
type textAddr string

func (textAddr) Network() string  { return "unknown" }
func (a textAddr) String() string { return string(a) }

type stateKey struct{}

// stateOf is the TLS of a connection that net/http does not know to have it.
func stateOf(ctx context.Context) *tls.ConnectionState {
	s, _ := ctx.Value(stateKey{}).(*tls.ConnectionState)
	return s
}

func newHTTPServer(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // where there is TLS
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: protocols, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: ReadHeaderTimeout, IdleTimeout: IdleTimeout,
	}
}

// server is the http.Server for calls.
func (w *web) server() *http.Server {
	s := newHTTPServer(w.handler())
	s.IdleTimeout = w.cfg.IdleTimeout
	s.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	if w.cfg.WriteTimeout > 0 {
		s.HTTP2.WriteByteTimeout = w.cfg.WriteTimeout
	}
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if c, ok := c.(*sharedConn); ok && c.state != nil {
			return context.WithValue(ctx, stateKey{}, c.state)
		}
		return ctx
	}
	return s
}

// A client over HTTP/2 that has gone without a word is found out by these.
const (
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
)

// Gateway adds routes for gRPC methods, as the google.api.http annotations of
// their protos say: REST with JSON, answered by the handlers that are registered
// here, with no connection in between. The middlewares see such a call as HTTP
// with the gRPC method's name, and interceptors for payloads see its messages;
// interceptors among GRPCOptions do not run. Routes of [Server.Handle] come first.
//
// Errors of fn are errors of [Server.Listen], and so are an fn that is nil and routes
// of a service that is not registered.
func (s *Server) Gateway(ctx context.Context, fn gateway.Register) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening {
		s.failLockedf("add routes of gRPC methods: the server is listening already; add them during setup")
		return
	}
	s.routed = true
	if err := s.web.register(ctx, fn); err != nil {
		s.errs = append(s.errs, err)
	}
}

// Handle routes HTTP requests that match a pattern of [http.ServeMux] through
// the middlewares to h. A pattern that is wrong or conflicts with another one
// is an error of [Server.Listen], one that comes after that an error of
// [Server.Stop].
func (s *Server) Handle(pattern string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening {
		s.failLockedf("handle HTTP pattern %q: the server is listening already; register it during setup", pattern)
		return
	}
	if err := s.web.handle(pattern, h); err != nil {
		s.errs = append(s.errs, err)
		return
	}
	s.routed = true
}

// ErrNoHTTP is that of [Server.Listen] where something is registered for HTTP and
// nothing listens for it.
var ErrNoHTTP = errors.New("there are routes but no listener; set server.http.addr, for instance to :8080")

// checkHTTPLocked adds what only is known once everything is registered.
func (s *Server) checkHTTPLocked() {
	if s.routed && !s.listens(HTTP) {
		s.failLockedf("handle HTTP: %w", ErrNoHTTP)
	}
	if err := s.web.finish(); err != nil {
		s.errs = append(s.errs, err)
	}
}
