package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/registry"
)

// web runs and announces an HTTP instance, which answers with its ID unless
// handle does.
func (w *world) web(t *testing.T, id string, handle http.HandlerFunc) *webServer {
	t.Helper()
	s := &webServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		if handle != nil {
			handle(rw, r)
			return
		}
		_, _ = io.WriteString(rw, id)
	}))
	t.Cleanup(s.Close)
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"http": s.Listener.Addr().String()}})
	return s
}

type webServer struct {
	*httptest.Server

	calls atomic.Int64
}

// kill cuts all connections and frees the port.
func (s *webServer) kill() {
	_ = s.Listener.Close()
	s.CloseClientConnections()
}

func get(t *testing.T, h *http.Client, url string) (*http.Response, error) {
	t.Helper()
	return do(t, h, http.MethodGet, url, nil)
}

func do(t *testing.T, h *http.Client, method, url string, body io.Reader) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return h.Do(r)
}

// text makes a request and returns status and body.
func text(t *testing.T, h *http.Client, method string, body io.Reader) (int, string, error) {
	t.Helper()
	resp, err := do(t, h, method, "http://echo/path?q=1", body)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// webConnected waits until n instances have answered.
func webConnected(t *testing.T, h *http.Client, n int) {
	t.Helper()
	seen := map[string]bool{}
	eventually(t, "requests reach all instances", func() bool {
		if _, id, err := text(t, h, http.MethodGet, nil); err == nil {
			seen[id] = true
		}
		return len(seen) >= n
	})
}

func TestHTTPRequest(t *testing.T) {
	w := newWorld(t)
	got := make(chan *http.Request, 1)
	w.web(t, "a", func(_ http.ResponseWriter, r *http.Request) { got <- r })
	h := w.client.HTTP("echo")
	if status, _, err := text(t, h, http.MethodPost, strings.NewReader("x")); err != nil || status != http.StatusOK {
		t.Fatalf("status %d, %v", status, err)
	}
	r := <-got
	if r.Host != "echo" || r.URL.RequestURI() != "/path?q=1" {
		t.Errorf("the server sees %s %s", r.Host, r.URL)
	}
	left, err := deadline.Parse(r.Header.Get(deadline.Header))
	if err != nil || left > client.DefaultTimeout || left < client.DefaultTimeout-time.Second {
		t.Errorf("the server is told of %s (%v)", left, err)
	}
	changed := toldOf[client.ViewChanged](t, w.events)
	if len(changed) != 1 || changed[0].Protocol != "http" || changed[0].Instances != 1 {
		t.Errorf("the list was told as %+v", changed)
	}
}

func TestHTTPMiddleware(t *testing.T) {
	var order []string
	note := func(name string) middleware.Middleware {
		return func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				order = append(order, name)
				call.SetHeader("X-Note", name)
				return next(ctx, call)
			}
		}
	}
	w := newWorld(t, client.WithMiddleware(note("client")))
	got := make(chan string, 2)
	w.web(t, "a", func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("X-Note") })
	plain := w.client.HTTP("echo")
	special := w.client.HTTP("echo", client.WithHTTPMiddleware(note("one")), client.WithHTTPMiddleware(note("two")))
	for _, h := range []*http.Client{special, plain} {
		if _, _, err := text(t, h, http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := <-got, <-got; a != "two" || b != "client" {
		t.Errorf("the servers see %q and %q", a, b)
	}
	if want := []string{"client", "one", "two", "client"}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v", order, want)
	}
}

func TestHTTPGetSurvivesAKilledInstance(t *testing.T) {
	w := newWorld(t)
	a := w.web(t, "a", nil)
	b := w.web(t, "b", nil)
	h := w.client.HTTP("echo")
	webConnected(t, h, 2)
	a.kill()
	for range 200 {
		if status, id, err := text(t, h, http.MethodGet, nil); err != nil || status != http.StatusOK || id != "b" {
			t.Fatalf("status %d from %q, %v", status, id, err)
		}
	}
	if b.calls.Load() < 200 {
		t.Errorf("b has served %d", b.calls.Load())
	}
	// It is tried now and then, not with every call.
	if got := len(recorded[client.CallRetried](w.events)); got == 0 || got > 20 {
		t.Errorf("%d of 200 requests met the dead instance", got)
	}
}

func TestHTTPUnsentPostGoesElsewhere(t *testing.T) {
	w := newWorld(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	w.announce(t, registry.Instance{ID: "dead", Endpoints: map[string]string{"http": dead}})
	b := w.web(t, "b", nil)
	h := w.client.HTTP("echo")
	for range 50 {
		if status, id, err := text(t, h, http.MethodPost, strings.NewReader("x")); err != nil || status != http.StatusOK || id != "b" {
			t.Fatalf("status %d from %q, %v", status, id, err)
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

func TestHTTPSentPostIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	var handled atomic.Int64
	cut := func(rw http.ResponseWriter, _ *http.Request) {
		handled.Add(1)
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close() // cut in the middle of the work
	}
	w.web(t, "a", cut)
	w.web(t, "b", cut)
	h := w.client.HTTP("echo")
	_, _, err := text(t, h, http.MethodPost, strings.NewReader("x"))
	if err == nil || handled.Load() != 1 {
		t.Errorf("error is %v after the request was handled %d times, want an error after once", err, handled.Load())
	}
	if !strings.Contains(err.Error(), `of "echo" at 127.0.0.1`) {
		t.Errorf("the error does not name the instance: %v", err)
	}
	handled.Store(0)
	if _, _, err := text(t, h, http.MethodGet, nil); err == nil || handled.Load() != 3 {
		t.Errorf("error is %v after a GET was handled %d times, want an error after three", err, handled.Load())
	}
}

func TestHTTPStatus(t *testing.T) {
	tests := []struct {
		status   int
		method   string
		attempts int64
	}{
		{http.StatusNotFound, http.MethodGet, 1},
		{http.StatusServiceUnavailable, http.MethodGet, 3},
		{http.StatusServiceUnavailable, http.MethodPost, 1},
		{http.StatusInternalServerError, http.MethodPut, 3},
		{http.StatusTooManyRequests, http.MethodGet, 1},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+http.StatusText(tt.status), func(t *testing.T) {
			w := newWorld(t)
			answer := func(rw http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); r.Method == http.MethodPut && string(b) != "body" {
					t.Errorf("the body arrived as %q", b)
				}
				http.Error(rw, "no", tt.status)
			}
			a, b := w.web(t, "a", answer), w.web(t, "b", answer)
			status, body, err := text(t, w.client.HTTP("echo"), tt.method, strings.NewReader("body"))
			if err != nil || status != tt.status || body != "no\n" {
				t.Errorf("status %d, body %q, %v", status, body, err)
			}
			if got := a.calls.Load() + b.calls.Load(); got != tt.attempts {
				t.Errorf("%d attempts, want %d", got, tt.attempts)
			}
			if tt.attempts == 3 && (a.calls.Load() == 0 || b.calls.Load() == 0) {
				t.Error("the retry went to the instance that had failed")
			}
		})
	}
}

func TestHTTPOtherHost(t *testing.T) {
	w := newWorld(t)
	h := w.client.HTTP("echo")
	for url, want := range map[string]string{
		"http://other/":   "call http://other: this client calls http://echo only",
		"https://other/":  "call https://other: this client calls http://echo only",
		"https://echo/":   "call https://echo: this client calls http://echo only; write http, whether TLS is used is up to clients.echo.tls.mode",
		"http://echo:80/": "call http://echo:80: this client calls http://echo only; leave the port out, the registry knows it",
		"/orders?id=7":    `call "/orders": this client calls http://echo only; begin the URL with that`,
	} {
		resp, err := do(t, h, http.MethodPost, url, strings.NewReader("x"))
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil || !strings.HasSuffix(err.Error(), want) || middleware.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestHTTPNobody(t *testing.T) {
	w := newWorld(t)
	h := w.client.HTTP("echo")
	if _, _, err := text(t, h, http.MethodGet, nil); err == nil || !strings.Contains(err.Error(), `no instance of "echo" is registered`) {
		t.Errorf("error is %v", err)
	}
	w.web(t, "a", nil)
	webConnected(t, h, 1)
}

func TestHTTPRegistryDownAtStart(t *testing.T) {
	w := newWorld(t)
	w.store.SetDown(errors.New("connection refused"))
	h := w.client.HTTP("echo")
	if _, _, err := text(t, h, http.MethodPost, strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "gives no list since") {
		t.Errorf("error is %v", err)
	}
	w.store.SetDown(nil)
	w.web(t, "a", nil)
	webConnected(t, h, 1)
}

func TestHTTPTimeout(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Timeout: 50 * time.Millisecond}
	}))
	w.web(t, "a", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}
