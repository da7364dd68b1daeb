package client_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

// TestHTTPAttemptTimeout: it ends with the head of a response, or with the whole body
// of an error. What is delivered is not cut, and is not repeated.
func TestHTTPAttemptTimeout(t *testing.T) {
	t.Parallel()
	const attempt = 200 * time.Millisecond
	slowBody := func(status, size int) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(status)
			for range size {
				_, _ = io.WriteString(rw, "x")
				_ = http.NewResponseController(rw).Flush()
				pause(r.Context(), attempt)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		hedge  bool
		want   string // of "b", which answers at once, after the slow one
	}{
		{"the body is slow", slowBody(http.StatusOK, 3), false, "xxx"},
		{"the body is slow, with hedging", slowBody(http.StatusOK, 3), true, "xxx"},
		{"the head is slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false, "b"},
		{"the body of an error is slow", slowBody(http.StatusServiceUnavailable, 10), false, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
				return client.Settings{
					Timeout: 30 * time.Second, AttemptTimeout: attempt, Balancer: balancer.NameRoundRobin,
					Hedge: retry.HedgePolicy{Enabled: tt.hedge, Delay: 10 * time.Second},
				}
			}))
			told := make(chan string, 10)
			slow := func(rw http.ResponseWriter, r *http.Request) {
				told <- r.Header.Get(deadline.Header)
				tt.handle(rw, r)
			}
			w.web(t, "a", slow)
			if tt.want == "xxx" {
				w.web(t, "a2", slow)
			} else {
				w.web(t, "b", nil)
			}
			h := w.client.HTTP("echo")
			for range 2 { // one of them meets the slow one first
				status, body, err := text(t, h, http.MethodGet, nil)
				if err != nil || status != http.StatusOK || body != tt.want {
					t.Errorf("status %d, %q, %v, want %q", status, body, err, tt.want)
				}
			}
			if len(told) == 0 {
				t.Fatal("the slow one was not asked")
			}
			if left, err := deadline.Parse(<-told); err != nil || left <= attempt {
				t.Errorf("the server was told of %v (%v), want the time of the call", left, err)
			}
		})
	}
}

// TestHTTPAttemptTimeoutIsADeadline: it is said as one when all attempts ran into it.
func TestHTTPAttemptTimeoutIsADeadline(t *testing.T) {
	t.Parallel()
	for _, hedge := range []bool{false, true} {
		w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
			return client.Settings{
				Timeout: 30 * time.Second, AttemptTimeout: 50 * time.Millisecond, Retry: retry.Policy{MaxAttempts: 3},
				Hedge: retry.HedgePolicy{Enabled: hedge, Delay: 10 * time.Millisecond},
			}
		}))
		w.web(t, "a", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		_, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
		if got := middleware.CodeName(middleware.Code(err)); got != "DEADLINE_EXCEEDED" || strings.Contains(err.Error(), "canceled") {
			t.Errorf("with hedging %v: %s: %v", hedge, got, err)
		}
		retried := recorded[client.CallRetried](w.events)
		if len(retried) == 0 || retried[0].Reason != retry.ReasonTimeout {
			t.Errorf("with hedging %v: told of %+v", hedge, retried)
		}
	}
}
