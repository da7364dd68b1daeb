package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/registry"
)

// pooledWeb is an HTTP instance that knows its connections.
type pooledWeb struct {
	*httptest.Server

	inst registry.Instance

	mu   sync.Mutex
	open map[net.Conn]bool
	most int
	dead bool
}

// pooled runs and announces one.
func (w *world) pooled(t *testing.T, id string, handle http.HandlerFunc) *pooledWeb {
	t.Helper()
	s := &pooledWeb{open: map[net.Conn]bool{}}
	s.Server = httptest.NewUnstartedServer(handle)
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.open[c] = true
			s.most = max(s.most, len(s.open))
			if c, ok := c.(*net.TCPConn); ok && s.dead { // it was being accepted
				reset(c)
			}
		case http.StateClosed, http.StateHijacked:
			delete(s.open, c)
		default:
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	s.inst = registry.Instance{ID: id, Service: "echo", Endpoints: map[string]string{"http": s.Listener.Addr().String()}}
	w.announce(t, s.inst)
	return s
}

// connections returns how many are open, and the most there ever were.
func (s *pooledWeb) connections() (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.most
}

// kill is what the kernel does for a process that crashes: nobody listens, and
// every connection ends with an RST.
func (s *pooledWeb) kill() {
	_ = s.Listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	for c := range s.open {
		if c, ok := c.(*net.TCPConn); ok {
			reset(c)
		}
	}
}

// httpSettings is a client whose settings a test changes.
func httpSettings(t *testing.T, set client.Settings) (*world, *atomic.Pointer[client.Settings]) {
	t.Helper()
	var current atomic.Pointer[client.Settings]
	current.Store(&set)
	return newWorld(t, client.WithSettings(func(string, string) client.Settings { return *current.Load() })), &current
}

// TestHTTPGetSurvivesAReset: an instance dies in the middle of the calls that it
// serves.
func TestHTTPGetSurvivesAReset(t *testing.T) {
	// The default would keep away from who does not answer.
	w, _ := httpSettings(t, client.Settings{Timeout: 10 * time.Second, Balancer: balancer.NameRoundRobin})
	var killed, cut atomic.Bool
	for _, id := range []string{"a", "b"} {
		w.pooled(t, id, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, id) })
	}
	stuck := make(chan struct{}, 100)
	end := make(chan struct{})
	dying := w.pooled(t, "dying", func(rw http.ResponseWriter, _ *http.Request) {
		if !killed.Load() {
			_, _ = io.WriteString(rw, "dying")
			return
		}
		cut.Store(true)
		stuck <- struct{}{}
		<-end
	})
	defer close(end)
	h := w.client.HTTP("echo")
	webConnected(t, h, 3)
	killed.Store(true)
	var calls, lost atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				if status, id, err := text(t, h, http.MethodGet, nil); err != nil || status != http.StatusOK || id == "dying" {
					lost.Add(1)
					t.Errorf("status %d from %q, %v", status, id, err)
				}
			}
		})
	}
	for range 3 {
		<-stuck
	}
	dying.kill()
	after := calls.Load()
	eventually(t, "calls go on", func() bool { return calls.Load() > after+200 })
	close(stop)
	wg.Wait()
	if lost.Load() != 0 || !cut.Load() {
		t.Errorf("%d of %d calls were lost", lost.Load(), calls.Load())
	}
}

// TestHTTPWithdrawnInstance: its connections that wait are closed at once, those
// in use after their calls.
func TestHTTPWithdrawnInstance(t *testing.T) {
	w, _ := httpSettings(t, client.Settings{Timeout: 30 * time.Second})
	const calls = 6
	block := make(chan struct{})
	unblock := sync.OnceFunc(func() { close(block) })
	defer unblock()
	var arrived atomic.Int64
	a := w.pooled(t, "a", func(rw http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) <= calls/2 {
			<-block
		}
		_, _ = io.Copy(rw, r.Body)
	})
	h := w.client.HTTP("echo")
	together := func(n int) *sync.WaitGroup {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if status, body, err := text(t, h, http.MethodPost, strings.NewReader("x")); err != nil || status != http.StatusOK || body != "x" {
					t.Errorf("status %d, %q, %v", status, body, err)
				}
			})
		}
		return &wg
	}
	first := together(calls)
	eventually(t, "all calls have come", func() bool { return arrived.Load() == calls })
	b := w.pooled(t, "b", func(rw http.ResponseWriter, r *http.Request) { _, _ = io.Copy(rw, r.Body) })
	if err := w.registry.Withdraw(context.Background(), a.inst.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connections that wait are closed", func() bool {
		open, _ := a.connections()
		return open == calls/2
	})
	together(calls).Wait() // they go to b, and disturb nothing
	if open, _ := a.connections(); open != calls/2 {
		t.Errorf("%d connections are open, want the %d in use", open, calls/2)
	}
	unblock()
	first.Wait()
	within(t, 5*time.Second, "all connections are closed", func() bool {
		open, _ := a.connections()
		return open == 0
	})
	if open, _ := b.connections(); open == 0 {
		t.Error("those to the other instance are closed as well")
	}
	// It comes back to the same address.
	a.inst.ID = "a2"
	w.announce(t, a.inst)
	eventually(t, "it is called again", func() bool {
		together(1).Wait()
		open, _ := a.connections()
		return open > 0
	})
}

// TestHTTPClosesConnections: a client that is closed leaves none behind.
func TestHTTPClosesConnections(t *testing.T) {
	w := newWorld(t)
	a := w.pooled(t, "a", func(http.ResponseWriter, *http.Request) {})
	webConnected(t, w.client.HTTP("echo"), 1)
	if err := w.client.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the connection is closed", func() bool {
		open, most := a.connections()
		return open == 0 && most > 0
	})
}

// TestHTTPMaxConnections: a thousand calls in a second to ten instances open no
// more connections than configured, whether the handlers are fast or slow.
func TestHTTPMaxConnections(t *testing.T) {
	const instances, most, calls = 10, 2, 1000
	for name, slow := range map[string]time.Duration{"fast": 0, "slow": 25 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w, _ := httpSettings(t, client.Settings{Timeout: 30 * time.Second, MaxConnections: most})
			var servers []*pooledWeb
			for i := range instances {
				servers = append(servers, w.pooled(t, string(rune('a'+i)), func(_ http.ResponseWriter, r *http.Request) { pause(r.Context(), slow) }))
			}
			h := w.client.HTTP("echo")
			var wg sync.WaitGroup
			for range calls {
				wg.Go(func() {
					if _, _, err := text(t, h, http.MethodGet, nil); err != nil {
						t.Error(err)
					}
				})
				pause(t.Context(), time.Second/calls)
			}
			wg.Wait()
			total := 0
			for _, s := range servers {
				_, peak := s.connections()
				total += peak
				if peak > most {
					t.Errorf("%s had %d connections open, want at most %d", s.URL, peak, most)
				}
			}
			if total == 0 || slow > 0 && total < instances*most/2 {
				t.Errorf("%d connections were opened in all: the calls cannot have been many at a time", total)
			}
		})
	}
}

// TestHTTPMaxConnectionsChanges: a changed bound holds for the next request, and a
// request that got no connection in time says why.
func TestHTTPMaxConnectionsChanges(t *testing.T) {
	w, current := httpSettings(t, client.Settings{Timeout: 30 * time.Second, MaxConnections: 1})
	var inside atomic.Int64
	release := make(chan struct{})
	w.pooled(t, "a", func(_ http.ResponseWriter, r *http.Request) {
		inside.Add(1)
		defer inside.Add(-1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	h := w.client.HTTP("echo")
	request := func(errs chan<- error) {
		_, _, err := text(t, h, http.MethodGet, nil)
		errs <- err
	}
	served, waited := make(chan error, 4), make(chan error, 2)
	go request(served)
	eventually(t, "one has the connection", func() bool { return inside.Load() == 1 })
	current.Store(&client.Settings{Timeout: 100 * time.Millisecond, MaxConnections: 1})
	for range cap(waited) {
		go request(waited)
	}
	for range cap(waited) {
		err := <-waited
		if err == nil || !strings.Contains(err.Error(), "clients.echo.http.max_connections, client.Settings.MaxConnections in code, allows 1 connections") {
			t.Errorf("a request that has waited for the connection: %v", err)
		}
	}
	current.Store(&client.Settings{Timeout: 30 * time.Second, MaxConnections: 3})
	for range 3 {
		go request(served)
	}
	eventually(t, "three more are served at a time", func() bool { return inside.Load() == 4 })
	close(release)
	for range cap(served) {
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestHTTPSlowReader: what the caller does with a response is not held against the
// instance.
func TestHTTPSlowReader(t *testing.T) {
	w := newWorld(t)
	w.pooled(t, "a", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") })
	h := w.client.HTTP("echo")
	for range 3 {
		resp, err := get(t, h, "http://echo/")
		if err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), 300*time.Millisecond)
		e := w.explained(t).Instances[0]
		if e.InFlight != 1 || e.Cost.OldestMS > 100 {
			t.Errorf("while the body is read %d are in flight, the oldest for %v ms", e.InFlight, e.Cost.OldestMS)
		}
		if err := drain(resp, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "nothing is in flight", func() bool { return w.explained(t).Instances[0].InFlight == 0 })
	if e := w.explained(t).Instances[0]; e.Calls != 3 || e.Cost.LatencyMS > 100 {
		t.Errorf("after %d calls the latency is %v ms", e.Calls, e.Cost.LatencyMS)
	}
}
