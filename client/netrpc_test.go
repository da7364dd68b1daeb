package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/rpc"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

func TestNetRPC(t *testing.T) {
	w := newWorld(t)
	s := w.hello(t, "a")
	n := w.netrpc(t)
	for range 20 {
		if got, err := said(t.Context(), n, "ann"); err != nil || got != "a: ann" {
			t.Fatalf("answered %q, %v", got, err)
		}
	}
	if err := n.Call(t.Context(), say, "bob", nil); err != nil {
		t.Errorf("without a reply: %v", err)
	}
	if calls, dials := s.calls.Load(), s.dials.Load(); calls != 21 || dials != 1 {
		t.Errorf("%d calls over %d connections, want 21 over 1", calls, dials)
	}
	changed := toldOf[client.ViewChanged](t, w.events)
	if len(changed) != 1 || changed[0].Protocol != "netrpc" || changed[0].Instances != 1 {
		t.Errorf("the list was told as %+v", changed)
	}
}

// TestNetRPCOverHTTP: one server with two paths, as rpc.HandleHTTP makes one.
func TestNetRPCOverHTTP(t *testing.T) {
	w := newWorld(t)
	s := &rpcServer{id: "a"}
	s.fail(nil)
	server := rpc.NewServer()
	if err := server.Register(HelloService{s}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(rpc.DefaultRPCPath, server)
	mux.Handle("/other", server)
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	w.announce(t, registry.Instance{ID: "a", Endpoints: map[string]string{"netrpc": h.Listener.Addr().String()}})
	for _, path := range []string{rpc.DefaultRPCPath, "/other"} {
		n := w.netrpc(t, client.WithRPCPath(path))
		for range 3 {
			if got, err := said(t.Context(), n, "ann"); err != nil || got != "a: ann" {
				t.Fatalf("answered %q, %v", got, err)
			}
		}
	}
	_, err := said(t.Context(), w.netrpc(t, client.WithRPCPath("/missing")), "ann")
	if middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "rpc.HandleHTTP") {
		t.Errorf("a path without net/rpc: %v", err)
	}
}

func TestNetRPCOptions(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, service string
		opt           client.NetRPCOption
		want          string
	}{
		{"service", "a/b", nil, "it is a name in the registry"},
		{"empty path", "echo", client.WithRPCPath(""), `must begin with "/"`},
		{"relative path", "echo", client.WithRPCPath("rpc"), `must begin with "/"`},
		{"two lines", "echo", client.WithRPCPath("/a\r\nx: y"), `must begin with "/"`},
		{"query", "echo", client.WithRPCPath("/a?b"), `must begin with "/"`},
		{"no dot", "echo", client.WithIdempotentMethods("Say"), `"Service.Method"`},
		{"no method", "echo", client.WithIdempotentMethods("Hello."), `"Service.Method"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var opts []client.NetRPCOption
			if tt.opt != nil {
				opts = append(opts, tt.opt)
			}
			if _, err := w.client.NetRPC(tt.service, opts...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestNetRPCCodes: what a method returns keeps its text and its type, and gets
// the code that belongs to it.
func TestNetRPCCodes(t *testing.T) {
	w := newWorld(t)
	s := w.hello(t, "a")
	coded := w.netrpc(t, client.WithServerErrorCode(func(_ string, err rpc.ServerError) codes.Code {
		if strings.HasPrefix(string(err), "no such") {
			return codes.NotFound
		}
		return codes.OK
	}))
	plain := w.netrpc(t)
	var text string
	var number int
	for _, tt := range []struct {
		name   string
		client *client.NetRPC
		method string
		args   any
		reply  any
		answer string
		code   codes.Code
		text   string
		server bool
	}{
		{"plain", plain, say, "x", &text, "no such user", codes.Unknown, "no such user", true},
		{"coded", coded, say, "x", &text, "no such user", codes.NotFound, "no such user", true},
		{"coded as OK", coded, say, "x", &text, "broken", codes.Unknown, "broken", true},
		{"service", plain, "Missing.Say", "x", &text, "", codes.Unimplemented, "rpc: can't find service Missing.Say", true},
		{"method", plain, "HelloService.Shout", "x", &text, "", codes.Unimplemented, "rpc: can't find method HelloService.Shout", true},
		{"no dot", plain, "Say", "x", &text, "", codes.Unimplemented, "rpc: service/method request ill-formed: Say", true},
		{"arguments of another type", plain, say, 7, &text, "", codes.Unknown, "gob:", true},
		{"arguments that gob refuses", plain, say, func() {}, &text, "", codes.InvalidArgument, "encode the arguments", false},
		{"arguments with a definition that gob refuses", plain, say, struct {
			Known string
			Inner any
		}{"x", struct{ unexported int }{1}}, &text, "", codes.InvalidArgument, "encode the arguments", false},
		{"nil arguments", plain, say, nil, &text, "", codes.InvalidArgument, "encode the arguments", false},
		{"nil pointer", plain, say, (*string)(nil), &text, "", codes.InvalidArgument, "nil *string", false},
		{"reply of another type", plain, say, "x", &number, "", codes.InvalidArgument, "decode the reply", false},
		{"reply that is no pointer", plain, say, "x", text, "", codes.InvalidArgument, "must be a pointer", false},
		{"nil reply of a type", plain, say, "x", (*string)(nil), "", codes.InvalidArgument, "must be a pointer", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.fail(func(string) error {
				if tt.answer == "" {
					return nil
				}
				return errors.New(tt.answer)
			})
			err := tt.client.Call(t.Context(), tt.method, tt.args, tt.reply)
			if middleware.Code(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error is %v with %v, want %v and %q", err, middleware.Code(err), tt.code, tt.text)
			}
			answer, ok := errors.AsType[rpc.ServerError](err)
			if ok != tt.server || ok && err.Error() != string(answer) {
				t.Errorf("error is %T %v, its answer %q", err, err, answer)
			}
			// None of it does harm to the connection.
			s.fail(nil)
			if got, err := said(t.Context(), plain, "x"); err != nil || got != "a: x" {
				t.Errorf("the next call was answered %q, %v", got, err)
			}
		})
	}
	if got := s.dials.Load(); got != 1 {
		t.Errorf("it took %d connections", got)
	}
}

func TestNetRPCMiddleware(t *testing.T) {
	var seen []string
	note := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			call.SetHeader("X-Note", "1")
			err := next(ctx, call)
			seen = append(seen, call.Kind.String(), call.Target, call.FullMethod(), call.Instance, call.Header("x-note"))
			return err
		}
	}
	w := newWorld(t)
	w.hello(t, "a")
	if _, err := said(t.Context(), w.netrpc(t, client.WithNetRPCMiddleware(note)), "x"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"client_netrpc", "echo", "HelloService/Say", "a", "1"}; !slices.Equal(seen, want) {
		t.Errorf("the middleware saw %q, want %q", seen, want)
	}
}

// TestNetRPCUnsent: a call that never reached anybody goes elsewhere, declared
// idempotent or not.
func TestNetRPCUnsent(t *testing.T) {
	w := newWorld(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	w.announce(t, registry.Instance{ID: "dead", Endpoints: map[string]string{"netrpc": lis.Addr().String()}})
	b := w.hello(t, "b")
	n := w.netrpc(t)
	for range 50 {
		if got, err := said(t.Context(), n, "x"); err != nil || got != "b: x" {
			t.Fatalf("answered %q, %v", got, err)
		}
	}
	if got := b.calls.Load(); got != 50 {
		t.Errorf("b has served %d of 50", got)
	}
	retried := recorded[client.CallRetried](w.events)
	if len(retried) == 0 || retried[0].Reason != retry.ReasonUnsent || retried[0].Delay != 0 || retried[0].Instance != "dead" {
		t.Errorf("retries were told as %+v", retried)
	}
}

// TestNetRPCSent: a call that was cut in the middle is made again only if it is
// idempotent.
func TestNetRPCSent(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ctx      func(*testing.T) context.Context
		opts     []client.NetRPCOption
		attempts int64
	}{
		{"unknown", (*testing.T).Context, nil, 1},
		{"context", idempotent, nil, 3},
		{"option", (*testing.T).Context, []client.NetRPCOption{client.WithIdempotentMethods(say)}, 3},
		{"other method", (*testing.T).Context, []client.NetRPCOption{client.WithIdempotentMethods("HelloService.Shout")}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.hello(t, "a"), w.hello(t, "b")
			n := w.netrpc(t, tt.opts...)
			rpcConnected(t, n, 2)
			before := a.calls.Load() + b.calls.Load()
			for _, s := range []*rpcServer{a, b} {
				s.fail(func(string) error { s.cut(); return nil })
			}
			_, err := said(tt.ctx(t), n, "x")
			if middleware.Code(err) != codes.Unavailable || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `of "echo" at 127.0.0.1`) {
				t.Errorf("error is %v", err)
			}
			if got := a.calls.Load() + b.calls.Load() - before; got != tt.attempts {
				t.Errorf("%d attempts, want %d", got, tt.attempts)
			}
		})
	}
}

// cut breaks all connections.
func (s *rpcServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

func TestNetRPCNobody(t *testing.T) {
	w := newWorld(t)
	n := w.netrpc(t)
	if _, err := said(t.Context(), n, "x"); middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `no instance of "echo" is registered`) {
		t.Errorf("error is %v", err)
	}
	w.announce(t, registry.Instance{ID: "g", Endpoints: map[string]string{"grpc": "127.0.0.1:1"}})
	eventually(t, "the endpoint is missing", func() bool {
		_, err := said(t.Context(), n, "x")
		return strings.Contains(err.Error(), `has a "netrpc" endpoint`)
	})
	w.hello(t, "a")
	rpcConnected(t, n, 1)
}

// TestNetRPCOtherProtocol: the port speaks something else, here that of a mail
// server, which talks first.
func TestNetRPCOtherProtocol(t *testing.T) {
	w := newWorld(t)
	w.talk(t, "a", []byte(strings.Repeat("220 mail.example.com ready\r\n", 10)))
	_, err := said(t.Context(), w.netrpc(t), "x")
	if middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "speaks net/rpc") {
		t.Errorf("error is %v", err)
	}
}

// talk announces an instance that says the same to everybody and then listens.
func (w *world) talk(t *testing.T, id string, speech []byte) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = conn.Write(speech)
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = w.client.Close() // so that the connections end
		_ = lis.Close()
		wg.Wait()
	})
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"netrpc": lis.Addr().String()}})
}

// TestNetRPCDelisted: a connection ends with its last call when its instance has
// left the list.
func TestNetRPCDelisted(t *testing.T) {
	w := newWorld(t)
	s := newRPCServer(t, "a", "127.0.0.1:0")
	w.put(t, registry.Instance{ID: "a", Endpoints: map[string]string{"netrpc": s.addr}})
	n := w.netrpc(t)
	rpcConnected(t, n, 1)
	entered, hold := make(chan struct{}), make(chan struct{})
	s.fail(func(name string) error {
		if name == "held" {
			close(entered)
			<-hold
		}
		return nil
	})
	answered := make(chan error, 1)
	go func() {
		_, err := said(t.Context(), n, "held")
		answered <- err
	}()
	<-entered
	b := w.hello(t, "b")
	w.put(t, registry.Instance{ID: "a", State: registry.Draining, Endpoints: map[string]string{"netrpc": s.addr}})
	w.lapse("a")
	eventually(t, "the list has one instance", func() bool {
		views := w.client.Views()
		return len(views) == 1 && views[0].Up == 1 && views[0].Draining == 0
	})
	eventually(t, "calls go to the other one", func() bool {
		got, err := said(t.Context(), n, "x")
		return err == nil && got == "b: x"
	})
	if s.open() != 1 {
		t.Error("the connection was closed before its call was over")
	}
	close(hold)
	if err := <-answered; err != nil {
		t.Errorf("the call on the instance that left: %v", err)
	}
	eventually(t, "the connection is closed", func() bool { return s.open() == 0 })
	if b.open() != 1 {
		t.Errorf("there are %d connections to the one that stayed", b.open())
	}
}

func TestNetRPCClosed(t *testing.T) {
	w := newWorld(t)
	s := w.hello(t, "a")
	n := w.netrpc(t)
	rpcConnected(t, n, 1)
	entered, hold := make(chan struct{}), make(chan struct{})
	s.fail(func(string) error {
		close(entered)
		<-hold
		return nil
	})
	failed := make(chan error, 1)
	go func() {
		_, err := said(context.Background(), n, "x")
		failed <- err
	}()
	<-entered
	if err := w.client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; middleware.Code(err) != codes.Canceled || !errors.Is(err, client.ErrClosed) {
		t.Errorf("the call in flight: %v", err)
	}
	close(hold)
	if _, err := said(t.Context(), n, "x"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("a call after it: %v", err)
	}
	if _, err := w.client.NetRPC("echo"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("a caller after it: %v", err)
	}
}
