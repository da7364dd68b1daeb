package client

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"plinth.internal/registry/memory"
)

// TestHTTPPoolSettles: whatever happens between the moment when a request gets its
// transport and the moment when it is sent, its connection is closed after it if
// nobody could use it again.
func TestHTTPPoolSettles(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(p *httpPool)
		kept      bool
	}{
		"nothing":              {func(*httpPool) {}, true},
		"the settings change":  {func(p *httpPool) { p.transport(&Settings{MaxConnections: 2}) }, false},
		"the instance is gone": {(*httpPool).close, false},
		"both":                 {func(p *httpPool) { p.transport(&Settings{MaxConnections: 2}); p.close() }, false},
		"the same again":       {func(p *httpPool) { p.transport(&Settings{MaxConnections: 1}) }, true},
		"a change and back": {func(p *httpPool) {
			p.transport(&Settings{MaxConnections: 2})
			p.transport(&Settings{MaxConnections: 1})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "x") }))
			closed := make(chan struct{}, 1)
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					closed <- struct{}{}
				}
			}
			server.Start()
			defer server.Close()
			reg := memory.Open(memory.NewStore())
			defer func() { _ = reg.Close() }()
			c, err := New(reg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			s := newService(c, "echo")
			p := &httpPool{service: s}

			a := &attempt{Context: t.Context(), service: s, http: &httpAttempt{}}
			via := p.transport(&Settings{MaxConnections: 1})
			tt.meanwhile(p)
			r, err := http.NewRequestWithContext(a, http.MethodGet, server.URL, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := via.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			p.settle(a.http.via)
			if tt.kept {
				select {
				case <-closed:
					t.Error("the connection is closed")
				case <-time.After(50 * time.Millisecond):
				}
				p.close()
			}
			select {
			case <-closed:
			case <-time.After(5 * time.Second):
				t.Error("the connection is still open")
			}
		})
	}
}
