package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	reports "plinth.internal/middleware/load"
	"plinth.internal/registry"
)

// webReporting is web with a server that says how busy it is.
func (w *world) webReporting(t *testing.T, id string, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(middleware.HTTPServer("echo", "/", handle, reports.New().Middleware()))
	t.Cleanup(s.Close)
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"http": s.Listener.Addr().String()}})
	return s
}

func TestHTTPBounce(t *testing.T) {
	w := newWorld(t)
	var block atomic.Pointer[chan struct{}]
	var held atomic.Int64
	answer := func(id string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if c := block.Load(); c != nil && id == "busy" {
				held.Add(1)
				<-*c
			}
			_, _ = io.Copy(rw, r.Body)
			_, _ = io.WriteString(rw, id)
		}
	}
	busy := w.webReporting(t, "busy", answer("busy"))
	w.webReporting(t, "b", answer("b"))
	w.webReporting(t, "c", answer("c"))
	h := w.client.HTTP("echo")
	for range 30 {
		if _, _, err := text(t, h, http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := make(chan struct{})
	block.Store(&c)
	done := make(chan error, 20)
	for range cap(done) {
		go func() {
			resp, err := http.Get(busy.URL)
			if err == nil {
				_ = resp.Body.Close()
			}
			done <- err
		}()
	}
	eventually(t, "the instance is busy", func() bool { return held.Load() == int64(cap(done)) })
	for range 30 { // not idempotent: what is handed back was not processed
		code, body, err := text(t, h, http.MethodPost, strings.NewReader("hi "))
		if err != nil || code != http.StatusOK || body != "hi b" && body != "hi c" {
			t.Fatalf("answered %d %q, %v", code, body, err)
		}
	}
	if got := recorded[client.CallBounced](w.events); len(got) < 5 || got[0].Instance != "busy" {
		t.Errorf("%d bounces were told: %+v", len(got), got)
	}
	close(c)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestHTTPHedge(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Hedge: retry.HedgePolicy{Enabled: true, Delay: 20 * time.Millisecond}}
	}))
	var hang atomic.Bool
	w.web(t, "slow", func(rw http.ResponseWriter, r *http.Request) {
		if hang.Load() {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(rw, "slow")
	})
	w.web(t, "b", nil)
	h := w.client.HTTP("echo")
	webConnected(t, h, 2)
	hang.Store(true)
	for range 10 {
		if _, body, err := text(t, h, http.MethodGet, nil); err != nil || body != "b" {
			t.Fatalf("answered %q, %v", body, err)
		}
	}
	hedged := recorded[client.CallHedged](w.events)
	if len(hedged) < 5 {
		t.Errorf("only %d calls were hedged", len(hedged))
	}
	for _, e := range hedged {
		if !e.Won {
			t.Errorf("told of %+v", e)
		}
	}
}

// TestHTTPHedgeAnswered: a call whose response is there is not hedged, however long
// its body is read, and costs the budget nothing.
func TestHTTPHedgeAnswered(t *testing.T) {
	const delay = 300 * time.Millisecond
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Hedge: retry.HedgePolicy{Enabled: true, Delay: delay}}
	}))
	var calls atomic.Int64
	handle := func(rw http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = io.WriteString(rw, strings.Repeat("x", 1<<10))
	}
	w.web(t, "a", handle)
	w.web(t, "b", handle)
	h := w.client.HTTP("echo")
	const downloads = 5
	var heads, bodies sync.WaitGroup
	read := make(chan struct{})
	heads.Add(downloads)
	for range downloads {
		bodies.Go(func() {
			resp, err := get(t, h, "http://echo/")
			heads.Done()
			<-read
			if err := drain(resp, err); err != nil {
				t.Error(err)
			}
		})
	}
	heads.Wait()
	pause(t.Context(), 2*delay)
	if e := w.explained(t); e.RetryTokens != e.RetryTokensMax {
		t.Errorf("%v tokens are left of %v", e.RetryTokens, e.RetryTokensMax)
	}
	close(read)
	bodies.Wait()
	if got := calls.Load(); got != downloads {
		t.Errorf("the servers got %d requests, want %d", got, downloads)
	}
	if hedged := recorded[client.CallHedged](w.events); len(hedged) != 0 {
		t.Errorf("told of %+v", hedged)
	}
}
