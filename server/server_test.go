package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/health"
	"plinth.internal/middleware"
	"plinth.internal/server"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// net/http waits half a second before it closes a connection whose
		// request it has turned down.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const wait = 10 * time.Second

// waiter is a gRPC service whose one call waits until it is told to go on.
type waiter interface {
	Wait(ctx context.Context) error
}

type waiterFunc func(ctx context.Context) error

func (f waiterFunc) Wait(ctx context.Context) error { return f(ctx) }

var waiterDesc = grpc.ServiceDesc{
	ServiceName: "test.v1.Waiter",
	HandlerType: (*waiter)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Wait",
		Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := dec(in); err != nil {
				return nil, err
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.v1.Waiter/Wait"},
				func(ctx context.Context, _ any) (any, error) { return in, srv.(waiter).Wait(ctx) })
		},
	}},
}

func fine(context.Context) error { return nil }

// loopback is a configuration with all three listeners on free ports.
func loopback() server.Config {
	return server.Config{
		Service: "test", Health: health.New(),
		Addrs: map[string]string{server.GRPC: "127.0.0.1:0", server.HTTP: "127.0.0.1:0", server.Admin: "127.0.0.1:0"},
	}
}

func build(t *testing.T, cfg server.Config) *server.Server {
	t.Helper()
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve starts a server after setup and returns it with its endpoints.
func serve(t *testing.T, cfg server.Config, setup func(*server.Server)) (*server.Server, map[string]string) {
	t.Helper()
	s := build(t, cfg)
	if setup != nil {
		setup(s)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Serve(func(err error) { t.Errorf("a listener broke: %v", err) })
	return s, s.Endpoints()
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func callWait(ctx context.Context, cc *grpc.ClientConn) error {
	return cc.Invoke(ctx, "/test.v1.Waiter/Wait", &emptypb.Empty{}, &emptypb.Empty{})
}

// get asks with a connection of its own.
func get(t *testing.T, url string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func recv[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(wait):
		t.Fatalf("%s does not happen", what)
		panic("unreachable")
	}
}

func TestBuildErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  server.Config
		want string
	}{
		"no health":   {server.Config{}, "Config.Health is missing"},
		"debug":       {server.Config{Health: health.New(), Debug: "everyone"}, `debug "everyone" is none of off, loopback, all`},
		"bad pattern": {server.Config{Health: health.New(), Admin: map[string]http.Handler{"GET /{": http.NotFoundHandler()}}, "build admin listener: handle HTTP pattern"},
	} {
		if _, err := server.New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestListenErrors: everything wrong with registrations is an error of Listen,
// where grpc and net/http would end the process.
func TestListenErrors(t *testing.T) {
	ok := http.NotFoundHandler()
	for _, tc := range []struct {
		name  string
		setup func(*server.Server)
		edit  func(*server.Config)
		want  []string
	}{
		{"service twice", func(s *server.Server) {
			s.RegisterService(&waiterDesc, waiterFunc(fine))
			s.RegisterService(&waiterDesc, waiterFunc(fine))
		}, nil, []string{"register gRPC service test.v1.Waiter: it is registered already"}},
		{"wrong type", func(s *server.Server) { s.RegisterService(&waiterDesc, 7) }, nil, []string{"int does not implement server_test.waiter"}},
		{"health", func(s *server.Server) {
			s.RegisterService(&healthpb.Health_ServiceDesc, healthpb.UnimplementedHealthServer{})
		}, nil,
			[]string{"register gRPC service grpc.health.v1.Health: it is registered already"}},
		{"reflection", func(s *server.Server) {
			s.RegisterService(&reflectionv1.ServerReflection_ServiceDesc, reflection.NewServerV1(reflection.ServerOptions{}))
		}, func(c *server.Config) { c.Reflection = true }, []string{"grpc.reflection.v1.ServerReflection: it is registered already"}},
		{"bad pattern", func(s *server.Server) { s.Handle("GET /{", ok) }, nil, []string{`handle HTTP pattern "GET /{": `}},
		{"empty pattern", func(s *server.Server) { s.Handle("", ok) }, nil, []string{`handle HTTP pattern "": `}},
		{"nil handler", func(s *server.Server) { s.Handle("GET /x", nil) }, nil, []string{`handle HTTP pattern "GET /x": `, "server_test.go:", "the handler is nil"}},
		{"nil function", func(s *server.Server) { s.Handle("GET /x", http.HandlerFunc(nil)) }, nil, []string{`"GET /x": `, "the handler is nil"}},
		{"nil routes", func(s *server.Server) { s.Gateway(context.Background(), nil) }, nil, []string{"Gateway was given nil"}},
		{"pattern twice", func(s *server.Server) { s.Handle("GET /x", ok); s.Handle("GET /x", ok) }, nil, []string{`handle HTTP pattern "GET /x": `, "conflicts"}},
		{"no listener for HTTP", func(s *server.Server) { s.Handle("GET /x", ok) }, func(c *server.Config) { delete(c.Addrs, server.HTTP) },
			[]string{"there are routes but no listener; set server.http.addr"}},
		{"all at once", func(s *server.Server) {
			s.RegisterService(&waiterDesc, 7)
			s.Handle("GET /{", ok)
		}, nil, []string{"int does not implement", `pattern "GET /{"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := loopback()
			if tc.edit != nil {
				tc.edit(&cfg)
			}
			s := build(t, cfg)
			tc.setup(s)
			err := s.Listen(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if len(s.Endpoints()) != 0 {
				t.Errorf("it listens on %v", s.Endpoints())
			}
		})
	}
}

// TestLate: a registration that comes too late is not lost.
func TestLate(t *testing.T) {
	s, _ := serve(t, loopback(), nil)
	s.RegisterService(&waiterDesc, waiterFunc(fine))
	s.Handle("GET /x", http.NotFoundHandler())
	err := s.Stop(t.Context())
	for _, want := range []string{"register gRPC service test.v1.Waiter: the server is listening already", `handle HTTP pattern "GET /x": the server is listening already`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

// TestAddressTaken: all listeners are bound or none.
func TestAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, name := range []string{server.GRPC, server.HTTP, server.Admin} {
		cfg := loopback()
		cfg.Addrs[name] = taken.Addr().String()
		// One that is given has to be closed as well.
		given := &closing{Listener: listen(t)}
		other := server.GRPC
		if name == other {
			other = server.Admin
		}
		cfg.Listeners = map[string]net.Listener{other: given}
		s := build(t, cfg)
		err := s.Listen(t.Context())
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, want := range []string{"listen for " + name + " on ", taken.Addr().String(), "address already in use", "set server." + name + ".addr to a free address"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
		if len(s.Endpoints()) != 0 || !given.closed {
			t.Errorf("%s: endpoints %v, the given listener is closed: %v", name, s.Endpoints(), given.closed)
		}
		s.Serve(func(err error) { t.Error(err) })
	}
}

// closing tells whether it was closed.
type closing struct {
	net.Listener

	closed bool
}

func (c *closing) Close() error { c.closed = true; return c.Listener.Close() }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestBeforeServe: a server that never served can be stopped and closed, and
// closes what it was given.
func TestBeforeServe(t *testing.T) {
	for _, listening := range []bool{false, true} {
		for name, end := range map[string]func(*server.Server) error{
			"stop":  func(s *server.Server) error { return s.Stop(context.Background()) },
			"close": (*server.Server).Close,
		} {
			given := &closing{Listener: listen(t)}
			cfg := loopback()
			cfg.Listeners = map[string]net.Listener{server.HTTP: given, server.GRPC: nil}
			s := build(t, cfg)
			if len(s.Endpoints()) != 0 {
				t.Errorf("endpoints before Listen: %v", s.Endpoints())
			}
			if listening {
				if err := s.Listen(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := s.Endpoints(); len(got) != 3 || got[server.HTTP] != given.Addr().String() {
					t.Errorf("endpoints %v", got)
				}
				if err := s.Listen(t.Context()); err == nil {
					t.Error("Listen works twice")
				}
			}
			for range 2 {
				if err := end(s); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if !given.closed || len(s.Endpoints()) != 0 {
				t.Errorf("%s: the given listener is closed: %v, endpoints %v", name, given.closed, s.Endpoints())
			}
			s.Serve(func(err error) { t.Error(err) })
		}
	}
}

func TestServe(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	cfg := loopback()
	cfg.Middleware = []middleware.Middleware{func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			err := next(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(c.Kind, " ", c.Service, " ", c.Method, " ", middleware.Code(err)))
			return err
		}
	}}
	s, at := serve(t, cfg, func(s *server.Server) {
		s.RegisterService(&waiterDesc, waiterFunc(fine))
		s.Handle("GET /items/{id}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.PathValue("id")) }))
	})
	if !s.LastCall().IsZero() {
		t.Error("there was a call before the first one")
	}
	if err := callWait(t.Context(), dial(t, at[server.GRPC])); err != nil {
		t.Error(err)
	}
	if time.Since(s.LastCall()) > wait || s.LastCall().IsZero() {
		t.Errorf("the last call was at %v", s.LastCall())
	}
	url := "http://" + at[server.HTTP]
	if st, _, body := get(t, url+"/items/7"); st != 200 || body != "HTTP/1.1 7" {
		t.Errorf("got %d %q", st, body)
	}
	if st, _, _ := get(t, url+"/nothing/here"); st != 404 {
		t.Errorf("an unmatched path: %d", st)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/items/7", nil)
	if err != nil {
		t.Fatal(err)
	}
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: h2, TLSClientConfig: &tls.Config{}}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.ProtoMajor != 2 {
		t.Errorf("the wrong method over HTTP/2 with prior knowledge: %d, %s", resp.StatusCode, resp.Proto)
	}
	req.Method = http.MethodGet
	resp, err = tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "HTTP/2.0 7" {
		t.Errorf("over HTTP/2: %d %q", resp.StatusCode, body)
	}
	if _, err := healthpb.NewHealthClient(dial(t, at[server.GRPC])).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "test.v1.Waiter"}); err != nil {
		t.Errorf("health of the service: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		"server_unary test.v1.Waiter Wait OK", "server_http test GET /items/{id} OK", "server_http test unmatched NotFound",
		"server_http test unmatched FailedPrecondition", "server_http test GET /items/{id} OK", "server_unary grpc.health.v1.Health Check OK",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the chain saw\n%q, want\n%q", seen, want)
	}
}

func TestHeadersTooLarge(t *testing.T) {
	_, at := serve(t, loopback(), func(s *server.Server) { s.Handle("/", http.NotFoundHandler()) })
	for _, name := range []string{server.HTTP, server.Admin} {
		if st, _, body := get(t, "http://"+at[name]+"/", "X-Large", strings.Repeat("x", 80<<10)); st != http.StatusRequestHeaderFieldsTooLarge || !strings.Contains(body, "431") {
			t.Errorf("%s: %d %q", name, st, body)
		}
		if st, _, _ := get(t, "http://"+at[name]+"/", "X-Large", strings.Repeat("x", 32<<10)); st == http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: 32 KiB of headers are too large", name)
		}
	}
}

func TestGracefulStop(t *testing.T) {
	t.Run("two ports", func(t *testing.T) { testGracefulStop(t, loopback()) })
	t.Run("one port", func(t *testing.T) { testGracefulStop(t, sharedConfig(t)) })
}

func testGracefulStop(t *testing.T, cfg server.Config) {
	begun, goOn := make(chan string, 2), make(chan struct{})
	s, at := serve(t, cfg, func(s *server.Server) {
		s.RegisterService(&waiterDesc, waiterFunc(func(context.Context) error { begun <- "grpc"; <-goOn; return nil }))
		s.Handle("GET /", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { begun <- "http"; <-goOn; fmt.Fprint(w, "done") }))
	})
	answers := make(chan error, 2)
	cc := dial(t, at[server.GRPC])
	go func() { answers <- callWait(t.Context(), cc) }()
	go func() {
		if st, _, body := get(t, "http://"+at[server.HTTP]+"/"); st != 200 || body != "done" {
			answers <- fmt.Errorf("got %d %q", st, body)
			return
		}
		answers <- nil
	}()
	recv(t, "a call", begun)
	recv(t, "the other call", begun)
	if s.InFlight() != 2 {
		t.Errorf("%d calls are in flight, want 2", s.InFlight())
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	// No new call gets in while the old ones finish.
	for _, addr := range []string{at[server.GRPC], at[server.HTTP]} {
		eventually(t, "the listener is closed", func() bool {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
	}
	if st, _, _ := get(t, "http://"+at[server.Admin]+"/debug/"); st != 200 {
		t.Errorf("the admin listener answers %d during the stop", st)
	}
	select {
	case err := <-stopped:
		t.Fatalf("Stop did not wait: %v", err)
	default:
	}
	close(goOn)
	for range 2 {
		if err := recv(t, "an answer", answers); err != nil {
			t.Error(err)
		}
	}
	if err := recv(t, "the stop", stopped); err != nil {
		t.Error(err)
	}
	if s.InFlight() != 0 {
		t.Errorf("%d calls are in flight after the stop", s.InFlight())
	}
	for range 2 { // nothing is left to stop
		if err := errors.Join(s.Stop(t.Context()), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("it does not happen that %s", what)
		}
	}
}

// TestCutOff: what outlasts the stop is cut off and counted, also where a
// handler does not look at its context.
func TestCutOff(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		t.Run(fmt.Sprintf("stubborn=%v", stubborn), func(t *testing.T) {
			begun, goOn := make(chan string, 3), make(chan struct{})
			hold := func(ctx context.Context, name string) {
				begun <- name
				if stubborn {
					<-goOn
					return
				}
				select {
				case <-ctx.Done():
				case <-goOn:
				}
			}
			s, at := serve(t, loopback(), func(s *server.Server) {
				s.RegisterService(&waiterDesc, waiterFunc(func(ctx context.Context) error { hold(ctx, "grpc"); return ctx.Err() }))
				s.Handle("GET /", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hold(r.Context(), "http") }))
			})
			answers := make(chan error, 3)
			cc := dial(t, at[server.GRPC])
			for range 2 {
				go func() { answers <- callWait(t.Context(), cc) }()
			}
			go func() {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at[server.HTTP]+"/", nil)
				tr := &http.Transport{DisableKeepAlives: true}
				resp, err := tr.RoundTrip(req)
				if err == nil {
					resp.Body.Close()
				}
				answers <- err
			}()
			for range 3 {
				recv(t, "a call", begun)
			}
			cause := errors.New("they took too long")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			stopped := make(chan error, 1)
			go func() { stopped <- s.Stop(ctx) }()
			err := recv(t, "the stop", stopped)
			for _, want := range []string{"stop gRPC: 2 calls were cut off: they took too long", "stop HTTP: 1 requests were cut off: they took too long"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
			if !errors.Is(err, cause) {
				t.Errorf("error %v hides its cause", err)
			}
			for range 3 {
				if recv(t, "an end", answers) == nil {
					t.Error("a call that was cut off ended well")
				}
			}
			close(goOn)
			eventually(t, "the handlers are gone", func() bool { return s.InFlight() == 0 })
		})
	}
}

// TestStopEndsWatch: a health watch lasts for ever and must not hold up a stop.
func TestStopEndsWatch(t *testing.T) {
	s, at := serve(t, loopback(), nil)
	w, err := healthpb.NewHealthClient(dial(t, at[server.GRPC])).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch says %v, %v", got, err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	if err := recv(t, "the stop", stopped); err != nil {
		t.Error(err)
	}
	if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v", err)
	}
}

// TestBrokenListener: a listener that breaks is reported.
func TestBrokenListener(t *testing.T) {
	for _, name := range []string{server.GRPC, server.HTTP, server.Admin} {
		cfg := loopback()
		l := listen(t)
		cfg.Listeners = map[string]net.Listener{name: l}
		s := build(t, cfg)
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 3)
		s.Serve(func(err error) { failed <- err })
		l.Close()
		if err := recv(t, "the report", failed); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "serve "+name+" on 127.0.0.1:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestQuiet: health checks and reflection count neither as calls nor as
// activity.
func TestQuiet(t *testing.T) {
	cfg := loopback()
	cfg.Reflection = true
	s, at := serve(t, cfg, nil)
	cc := dial(t, at[server.GRPC])
	if _, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	if got := services(t, cc); !slices.Contains(got, "grpc.health.v1.Health") {
		t.Errorf("reflection lists %q", got)
	}
	if !s.LastCall().IsZero() || s.InFlight() != 0 {
		t.Errorf("last call %v, %d in flight", s.LastCall(), s.InFlight())
	}
}

// services asks gRPC reflection.
func services(t *testing.T, cc *grpc.ClientConn) []string {
	t.Helper()
	got, err := tryServices(t.Context(), cc)
	if err != nil {
		t.Error(err)
	}
	return got
}

func tryServices(ctx context.Context, cc *grpc.ClientConn) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	// An error of Send is io.EOF; Recv tells the real one.
	_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	slices.Sort(names)
	return names, nil
}

// TestAdminGuard asks from here and from elsewhere.
func TestAdminGuard(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") })
	const here, elsewhere = "127.0.0.1:1234", "192.0.2.1:1234"
	for _, tc := range []struct {
		debug, from string
		allowed     bool
	}{
		{server.DebugOff, here, false}, {server.DebugOff, elsewhere, false},
		{server.DebugLoopback, here, true}, {server.DebugLoopback, "[::1]:1", true}, {server.DebugLoopback, "[::ffff:127.0.0.1]:1", true},
		{server.DebugLoopback, elsewhere, false}, {server.DebugLoopback, "[2001:db8::1]:1", false}, {server.DebugLoopback, "", false}, {server.DebugLoopback, "@", false},
		{"", here, true}, {"", elsewhere, false},
		{server.DebugAll, here, true}, {server.DebugAll, elsewhere, true},
	} {
		h := adminHandler(t, server.Config{
			Service: "test", Health: health.New(), Debug: tc.debug,
			Admin: map[string]http.Handler{"/health": page, "/metrics": page, "GET /debug/log": page, "/debug/config": page},
		})
		for path, open := range map[string]bool{
			"/health": true, "/metrics": true, "/debug/config": false, "/debug/log": false, "/debug/": false, "/debug/pprof/": false, "/debug/pprof/cmdline": false,
		} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.RemoteAddr = tc.from
			h.ServeHTTP(w, r)
			want := http.StatusOK
			if !open && !tc.allowed {
				want = http.StatusForbidden
			}
			if w.Code != want {
				t.Errorf("debug %q, from %q: %s is %d, want %d", tc.debug, tc.from, path, w.Code, want)
			}
			if want == http.StatusForbidden && !strings.Contains(w.Body.String(), "server.admin.debug") {
				t.Errorf("%q does not tell how to change that", w.Body)
			}
		}
	}
}

// adminHandler answers as the admin listener of a server does, for addresses
// that a test cannot call from.
func adminHandler(t *testing.T, cfg server.Config) http.Handler {
	t.Helper()
	return server.AdminHandler(build(t, cfg))
}

func TestAdminIndex(t *testing.T) {
	cfg := loopback()
	view := server.View("config <x>", func(*http.Request) any { return map[string]string{"a": "<b>"} })
	cfg.Admin = map[string]http.Handler{"/health": view, "GET /debug/log": view, "PUT /debug/log": view, "/debug/config": view, "/debug/bad": server.View("bad", func(*http.Request) any { return func() {} })}
	cfg.About = map[string]string{"/debug/config": "What is <set>."}
	status := "Health: ok."
	cfg.Status = func() string { return status }
	_, at := serve(t, cfg, nil)
	url := "http://" + at[server.Admin]

	st, header, body := get(t, url+"/debug/")
	var index struct {
		Service string            `json:"service"`
		Pages   []string          `json:"pages"`
		Status  string            `json:"status"`
		About   map[string]string `json:"about"`
	}
	if err := json.Unmarshal([]byte(body), &index); err != nil || st != 200 || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		t.Fatalf("%d %q, %v", st, body, err)
	}
	if want := []string{"/debug/bad", "/debug/config", "/debug/log", "/debug/pprof/", "/health"}; index.Service != "test" || !slices.Equal(index.Pages, want) ||
		index.Status != status || index.About["/debug/config"] != "What is <set>." || index.About["/debug/pprof/"] == "" {
		t.Errorf("index %+v", index)
	}
	status = "Health: <degraded>."
	st, header, body = get(t, url+"/debug/", "Accept", "text/html,application/xhtml+xml")
	for _, want := range []string{"<p>Health: &lt;degraded&gt;.</p>", `<a href="/debug/config">/debug/config</a><br>What is &lt;set&gt;.`, `<a href="/health">/health</a></li>`} {
		if !strings.Contains(body, want) {
			t.Errorf("the index lacks %q:\n%s", want, body)
		}
	}
	if st != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.Contains(body, `<a href="/debug/config">`) {
		t.Errorf("%d %v\n%s", st, header, body)
	}
	if st, header, _ = get(t, url+"/"); st != 302 || header.Get("Location") != "/debug/" {
		t.Errorf("/: %d %v", st, header)
	}
	if st, _, body = get(t, url+"/debug/config"); st != 200 || !strings.Contains(body, `"a": `) {
		t.Errorf("%d %q", st, body)
	}
	if st, header, body = get(t, url+"/debug/config", "Accept", "text/html"); st != 200 || strings.Contains(body, "<b>") || strings.Contains(body, "<x>") || header.Get("Cache-Control") != "no-store" {
		t.Errorf("the page is not escaped:\n%s", body)
	}
	if st, _, body = get(t, url+"/debug/bad"); st != 500 || !strings.Contains(body, "encode bad") {
		t.Errorf("%d %q", st, body)
	}
	if st, _, _ = get(t, url+"/nothing"); st != 404 {
		t.Errorf("/nothing: %d", st)
	}
}

// TestAdminGRPC: health and reflection over the admin port, HTTP/2 without TLS.
func TestAdminGRPC(t *testing.T) {
	for _, debug := range []string{server.DebugLoopback, server.DebugOff} {
		cfg := loopback()
		cfg.Debug = debug
		cfg.Health.SetPhase(health.Serving)
		_, at := serve(t, cfg, func(s *server.Server) { s.RegisterService(&waiterDesc, waiterFunc(fine)) })
		cc := dial(t, at[server.Admin])
		if resp, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "test.v1.Waiter"}); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%s: health says %v, %v", debug, resp, err)
		}
		got, err := tryServices(t.Context(), cc)
		if debug == server.DebugOff {
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("off: %q, %v", got, err)
			}
		} else if want := []string{"grpc.health.v1.Health", "test.v1.Waiter"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("reflection lists %q, %v, want %q", got, err, want)
		}
		if err := callWait(t.Context(), cc); err == nil {
			t.Error("the admin port serves calls")
		}
		if _, err := tryServices(t.Context(), dial(t, at[server.GRPC])); status.Code(err) != codes.Unimplemented {
			t.Errorf("the port for calls offers reflection: %v", err)
		}
	}
}
