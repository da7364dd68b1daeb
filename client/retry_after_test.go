package client_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
)

// TestHTTPRetryAfter: a server that names a time is not called before, and where that
// is too late the caller gets its answer at once.
func TestHTTPRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		after  string
		want   int64 // attempts
		waits  time.Duration
	}{
		{"503, too late", http.StatusServiceUnavailable, "30", 1, 0},
		{"503, a date that is too late", http.StatusServiceUnavailable, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 1, 0},
		{"503, in time", http.StatusServiceUnavailable, "1", 2, time.Second},
		{"429, in time", http.StatusTooManyRequests, "1", 2, time.Second},
		{"503, a date in the past", http.StatusServiceUnavailable, "Sun, 06 Nov 1994 08:49:37 GMT", 2, 0},
		{"503, unreadable", http.StatusServiceUnavailable, "soon", 2, 0},
		{"503, no time", http.StatusServiceUnavailable, "", 2, 0},
		{"429, no time", http.StatusTooManyRequests, "", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := httpSettings(t, client.Settings{Timeout: 20 * time.Second, Balancer: balancer.NameRoundRobin})
			var calls atomic.Int64
			w.web(t, "a", func(rw http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) > 1 {
					return
				}
				if tt.after != "" {
					rw.Header().Set("Retry-After", tt.after)
				}
				rw.WriteHeader(tt.status)
			})
			begun := time.Now()
			status, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
			took := time.Since(begun)
			want := http.StatusOK
			if tt.want == 1 {
				want = tt.status
			}
			if err != nil || status != want || calls.Load() != tt.want {
				t.Errorf("status %d after %d attempts (%v), want %d after %d", status, calls.Load(), err, want, tt.want)
			}
			if took < tt.waits {
				t.Errorf("it was made again after %v, want %v", took, tt.waits)
			}
		})
	}
}

// TestHTTPExpectContinue: what a server refuses by the head of a request is not sent.
func TestHTTPExpectContinue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.web(t, "a", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.Copy(rw, r.Body)
	})
	h := w.client.HTTP("echo")
	for path, want := range map[string]int{"/refuse": http.StatusUnauthorized, "/take": http.StatusOK} {
		body := &countedReader{Reader: strings.NewReader("hello")}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://echo"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Expect", "100-continue")
		resp, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: status %d, %v", path, resp.StatusCode, err)
		}
		if sent := body.reads.Load() > 0; sent != (want == http.StatusOK) || sent && string(got) != "hello" {
			t.Errorf("%s: the body was read %d times, and answered with %q", path, body.reads.Load(), got)
		}
	}
}

type countedReader struct {
	io.Reader

	reads atomic.Int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	r.reads.Add(1)
	return r.Reader.Read(p)
}
