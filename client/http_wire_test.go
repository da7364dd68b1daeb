package client_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
)

// pooledFleet is n instances, and a client that keeps several connections to each.
// Once it is told to, each of them drops every request without an answer, as
// net/http's server does when a handler panics.
func pooledFleet(t *testing.T, n int, set client.Settings) (h *http.Client, drop *atomic.Bool, handled *atomic.Int64, servers []*pooledWeb) {
	t.Helper()
	const each = 6
	set.Balancer = balancer.NameRoundRobin
	w, _ := httpSettings(t, set)
	drop, handled = &atomic.Bool{}, &atomic.Int64{}
	var arrived atomic.Int64
	full := make(chan struct{})
	for i := range n {
		servers = append(servers, w.pooled(t, string(rune('a'+i)), func(_ http.ResponseWriter, r *http.Request) {
			if drop.Load() {
				handled.Add(1)
				panic(http.ErrAbortHandler)
			}
			if arrived.Add(1) == int64(n*each) {
				close(full)
			}
			select {
			case <-full:
			case <-r.Context().Done():
			}
		}))
	}
	h = w.client.HTTP("echo")
	var wg sync.WaitGroup
	for range n * each {
		wg.Go(func() {
			if _, _, err := text(t, h, http.MethodGet, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return h, drop, handled, servers
}

// TestHTTPSentOncePerAttempt: net/http would send what is dropped without an answer
// again on each connection that it keeps.
func TestHTTPSentOncePerAttempt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, method, header string
		attempts             int
		want                 int64
	}{
		{"GET", http.MethodGet, "", 0, 3},
		{"HEAD", http.MethodHead, "", 2, 2},
		{"GET that is not retried", http.MethodGet, "", 1, 1},
		{"POST", http.MethodPost, "", 0, 1},
		{"POST with a key", http.MethodPost, "Idempotency-Key", 0, 1},
		{"POST with an X- key", http.MethodPost, "X-Idempotency-Key", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, drop, handled, servers := pooledFleet(t, 3, client.Settings{
				Timeout: 30 * time.Second, Retry: retry.Policy{MaxAttempts: tt.attempts},
			})
			kept := 0
			for _, s := range servers {
				now, _ := s.connections()
				kept += now
			}
			drop.Store(true)
			r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://echo/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != "" {
				r.Header.Set(tt.header, "x")
			}
			err = drain(h.Do(r))
			if got := handled.Load(); err == nil || got != tt.want {
				t.Errorf("it was handled %d times, want %d (%v)", got, tt.want, err)
			}
			if err != nil && !strings.Contains(err.Error(), "before an answer came") {
				t.Errorf("the error does not say what happened: %v", err)
			}
			left := 0
			for _, s := range servers {
				now, _ := s.connections()
				left += now
			}
			if int64(kept-left) > tt.want {
				t.Errorf("%d of %d connections are left, want those that were not dropped", left, kept)
			}
		})
	}
}
