package client_test

import (
	"context"
	"net"
	"net/rpc"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"plinth.internal/client"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// HelloService is the service of any net/rpc tutorial. It answers with who it is,
// unless handle does.
type HelloService struct{ server *rpcServer }

// Say answers "ID: name".
func (h HelloService) Say(name string, reply *string) error {
	h.server.calls.Add(1)
	if handle := *h.server.handler.Load(); handle != nil {
		if err := handle(name); err != nil {
			return err
		}
	}
	*reply = h.server.id + ": " + name
	return nil
}

// say is the method that these tests call.
const say = "HelloService.Say"

// rpcServer is one instance, as a team has it: nothing of Plinth is in it.
type rpcServer struct {
	id      string
	addr    string
	calls   atomic.Int64
	dials   atomic.Int64
	handler atomic.Pointer[func(name string) error]

	mu    sync.Mutex
	lis   net.Listener
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newRPCServer(t testing.TB, id, addr string) *rpcServer {
	t.Helper()
	s := &rpcServer{id: id, addr: addr, conns: map[net.Conn]struct{}{}}
	s.fail(nil)
	s.serve(t)
	t.Cleanup(s.kill)
	return s
}

func (s *rpcServer) fail(handle func(name string) error) { s.handler.Store(&handle) }

// serve listens, on the same address when it is called again after kill.
func (s *rpcServer) serve(t testing.TB) {
	t.Helper()
	lis, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer()
	if err := server.Register(HelloService{s}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.lis, s.addr = lis, lis.Addr().String()
	s.mu.Unlock()
	s.wg.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			s.dials.Add(1)
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
			s.wg.Go(func() {
				server.ServeConn(conn)
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			})
		}
	})
}

// kill ends it as a signal does: the port is free and all connections are cut.
func (s *rpcServer) kill() {
	s.mu.Lock()
	_ = s.lis.Close()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// open is how many connections there are.
func (s *rpcServer) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (w *world) hello(t *testing.T, id string) *rpcServer {
	t.Helper()
	s := newRPCServer(t, id, "127.0.0.1:0")
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"netrpc": s.addr}})
	return s
}

func (w *world) netrpc(t *testing.T, opts ...client.NetRPCOption) *client.NetRPC {
	t.Helper()
	n, err := w.client.NetRPC("echo", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// said makes a call.
func said(ctx context.Context, n *client.NetRPC, name string) (string, error) {
	var reply string
	err := n.Call(ctx, say, name, &reply)
	return reply, err
}

// rpcConnected waits until n instances have answered.
func rpcConnected(t *testing.T, c *client.NetRPC, n int) {
	t.Helper()
	seen := map[string]bool{}
	eventually(t, "calls reach "+strconv.Itoa(n)+" instances", func() bool {
		if id, err := said(t.Context(), c, "x"); err == nil {
			seen[id] = true
		}
		return len(seen) >= n
	})
}

func idempotent(t *testing.T) context.Context {
	t.Helper()
	return middleware.WithIdempotency(t.Context(), middleware.Idempotent)
}
