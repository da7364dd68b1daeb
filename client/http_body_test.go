package client_test

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
)

// TestHTTPSlowCaller: the deadline passes while an instance waits for its caller, or
// the caller for it. Only the latter is held against it.
func TestHTTPSlowCaller(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	large := make([]byte, 16<<20) // more than sockets take
	late := func() { pause(t.Context(), 2*timeout) }
	for _, tt := range []struct {
		name   string
		call   func(h *http.Client)
		judged bool
	}{
		{name: "holds the response", call: func(h *http.Client) {
			resp, err := get(t, h, "http://echo/large")
			if err != nil {
				t.Error(err)
				return
			}
			late()
			if err := drain(resp, nil); err == nil {
				t.Error("all was read after the deadline")
			}
		}},
		{name: "forgets the response", call: func(h *http.Client) {
			resp, err := get(t, h, "http://echo/large")
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = resp.Body.Read(make([]byte, 7))
			late()
			_ = resp.Body.Close()
		}},
		{name: "has nothing to send", call: func(h *http.Client) {
			r, w := io.Pipe()
			go func() {
				_, _ = io.WriteString(w, "x")
				late()
				_ = w.Close()
			}()
			if err := drain(do(t, h, http.MethodPost, "http://echo/", r)); err == nil {
				t.Error("the request was answered without its body")
			}
		}},
		{name: "waits for the response", judged: true, call: func(h *http.Client) {
			if err := drain(get(t, h, "http://echo/stall")); err == nil {
				t.Error("what has stalled was answered")
			}
		}},
		{name: "has sent all", judged: true, call: func(h *http.Client) {
			body := io.NopCloser(bytes.NewReader(make([]byte, 1000)))
			if err := drain(do(t, h, http.MethodPost, "http://echo/hang", body)); err == nil {
				t.Error("what hangs was answered")
			}
		}},
		{name: "could send more", judged: true, call: func(h *http.Client) {
			body := io.NopCloser(bytes.NewReader(large))
			if err := drain(do(t, h, http.MethodPost, "http://echo/unread", body)); err == nil {
				t.Error("what hangs was answered")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := client.Settings{Timeout: 10 * time.Second, Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyClassic}}
			w, current := httpSettings(t, set)
			limit := func(d time.Duration) {
				next := set
				next.Timeout = d
				current.Store(&next)
			}
			for _, id := range []string{"a", "b"} {
				w.pooled(t, id, func(rw http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/large":
						_, _ = rw.Write(large)
					case "/stall":
						rw.WriteHeader(http.StatusOK)
						_ = http.NewResponseController(rw).Flush()
						<-r.Context().Done()
					case "/hang":
						_, _ = io.Copy(io.Discard, r.Body)
						<-r.Context().Done()
					case "/unread":
						late()
					default:
						_, _ = io.Copy(io.Discard, r.Body)
						_, _ = io.WriteString(rw, id)
					}
				})
			}
			h := w.client.HTTP("echo")
			webConnected(t, h, 2)
			limit(timeout)
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() { tt.call(h) })
			}
			wg.Wait()
			limit(10 * time.Second)
			failures := func() (n int) {
				for _, i := range w.explained(t).Instances {
					n += i.Failures
				}
				return n
			}
			if tt.judged {
				eventually(t, "it is held against the instances", func() bool { return failures() > 0 })
				return
			}
			if n := failures(); n != 0 {
				t.Errorf("%d failures were counted", n)
			}
			for range 20 {
				if status, _, err := text(t, h, http.MethodGet, nil); err != nil || status != http.StatusOK {
					t.Fatalf("a good request: status %d, %v", status, err)
				}
			}
			if told := recorded[client.InstanceEjected](w.events); len(told) > 0 {
				t.Errorf("ejected: %+v", told)
			}
		})
	}
}
