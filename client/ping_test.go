package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
)

// stopper makes one address look like a process that is stopped: connections are
// accepted, what is sent is taken, and nothing comes back until it goes on.
type stopper struct {
	addr string

	mu   sync.Mutex
	gate chan struct{} // closed = it runs
}

func newStopper() *stopper {
	s := &stopper{gate: make(chan struct{})}
	close(s.gate)
	return s
}

func (s *stopper) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || addr != s.addr {
		return c, err
	}
	return &stoppedConn{Conn: c, stopper: s, closed: make(chan struct{})}, nil
}

func (s *stopper) stop() { s.mu.Lock(); s.gate = make(chan struct{}); s.mu.Unlock() }
func (s *stopper) cont() { s.mu.Lock(); close(s.gate); s.mu.Unlock() }

func (s *stopper) running() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate
}

type stoppedConn struct {
	net.Conn

	stopper *stopper
	once    sync.Once
	closed  chan struct{}
}

func (c *stoppedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.stopper.running():
	case <-c.closed:
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *stoppedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestSilent: over HTTP and net/rpc nothing but calls shows that a process is
// stopped. One call finds it out, and the next one is made when it answers again,
// not when what is known of it has faded.
func TestSilent(t *testing.T) {
	const timeout = 100 * time.Millisecond
	// round_robin remembers nothing: what keeps calls away is the ping.
	settings := client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Timeout: timeout, Balancer: balancer.NameRoundRobin}
	})
	for _, protocol := range []string{"http", "netrpc"} {
		t.Run(protocol, func(t *testing.T) {
			sick := newStopper()
			w := newWorld(t, settings, client.WithDialer(sick.dial))
			var slow atomic.Bool // the handler, of a process that is well
			var call func() error
			var served func() int64
			if protocol == "http" {
				handle := func(rw http.ResponseWriter, r *http.Request) {
					if slow.Load() {
						<-r.Context().Done()
					}
					_, _ = io.WriteString(rw, "ok")
				}
				a := w.web(t, "sick", handle)
				w.web(t, "b", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok") })
				sick.addr = a.Listener.Addr().String()
				h := w.client.HTTP("echo")
				call = func() error { _, _, err := text(t, h, http.MethodPost, nil); return err }
				served = a.calls.Load
			} else {
				a := w.hello(t, "sick")
				w.hello(t, "b")
				a.fail(func(string) error {
					if slow.Load() {
						pause(context.Background(), 3*timeout)
					}
					return nil
				})
				sick.addr = a.addr
				n := w.netrpc(t)
				call = func() error { _, err := said(t.Context(), n, "x"); return err }
				served = a.calls.Load
			}
			calls := func(n int) (failed int) {
				t.Helper()
				for range n {
					if call() != nil {
						failed++
					}
				}
				return failed
			}
			reached := func() bool {
				before := served()
				return calls(2) == 0 && served() > before
			}
			eventually(t, "both are called", func() bool { return reached() })

			sick.stop()
			if failed := calls(50); failed != 1 {
				t.Errorf("%d of 50 calls failed while one of two instances was stopped, want 1", failed)
			}
			w.whys(t, map[string]string{"sick": "a call to it timed out, and it has not answered a ping since", "b": ""})
			sick.cont()
			eventually(t, "it is called again", reached)

			// One that is only slow answers the ping, and is called again.
			slow.Store(true)
			eventually(t, "a slow one is called again and again", func() bool { before := served(); calls(4); return served() >= before+2 })
			slow.Store(false)
			eventually(t, "both are called", reached)
		})
	}
}
