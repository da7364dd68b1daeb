package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/middleware/recovery"
)

// serveHTTP starts a server for HTTP/1, or for HTTP/2 without TLS, and returns
// its URL and a client for it.
func serveHTTP(t *testing.T, h http.Handler, h2 bool) (string, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	s.Config.Protocols = protocols
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // what handlers do wrong here is on purpose
	s.Start()
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		s.Close()
	})
	return s.URL, &http.Client{Transport: tr}
}

func get(t *testing.T, c *http.Client, url string) (status int, header http.Header, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

func TestHTTPServer(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		chain   []middleware.Middleware
		status  int
		body    string
		code    codes.Code // as the chain sees it
	}{
		{"writes", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hi") }, nil, 200, "hi", codes.OK},
		{"writes nothing", func(http.ResponseWriter, *http.Request) {}, nil, 200, "", codes.OK},
		{"created", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }, nil, 201, "", codes.OK},
		{"no content", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, nil, 204, "", codes.OK},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) }, nil, 304, "", codes.OK},
		{"not found", http.NotFound, nil, 404, "404 page not found\n", codes.NotFound},
		{"failed", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }, nil, 503, "no\n", codes.Unavailable},
		{"first status counts", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "hi")
			w.WriteHeader(http.StatusInternalServerError)
		}, nil, 200, "hi", codes.OK},
		{"flushed", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); fmt.Fprint(w, "hi") }, nil, 200, "hi", codes.OK},
		{
			"answered by a middleware", func(http.ResponseWriter, *http.Request) {},
			[]middleware.Middleware{answer(status.Error(codes.ResourceExhausted, "slow down"))},
			429, `{"code":8,"status":"RESOURCE_EXHAUSTED","message":"slow down"}` + "\n", codes.ResourceExhausted,
		},
		{
			"answered by a middleware with a status", func(http.ResponseWriter, *http.Request) {},
			[]middleware.Middleware{answer(&middleware.HTTPError{Status: 418})},
			418, `{"code":9,"status":"FAILED_PRECONDITION","message":"HTTP status 418 I'm a teapot"}` + "\n", codes.FailedPrecondition,
		},
		{
			"panics", func(http.ResponseWriter, *http.Request) { panic("x") }, []middleware.Middleware{recovery.New(nil)},
			500, `{"code":13,"status":"INTERNAL","message":"internal error in GET /x"}` + "\n", codes.Internal,
		},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tc.name, h2), func(t *testing.T) {
				w := newWatcher()
				chain := append([]middleware.Middleware{w.middleware}, tc.chain...)
				url, client := serveHTTP(t, middleware.HTTPServer("web", "GET /x", tc.handler, chain...), h2)
				st, _, body, err := get(t, client, url)
				if err != nil || st != tc.status || body != tc.body {
					t.Errorf("got %d %q, %v, want %d %q", st, body, err, tc.status, tc.body)
				}
				e := w.next(t)
				if got := middleware.Code(e.err); got != tc.code {
					t.Errorf("the chain saw %v, want %v", e.err, tc.code)
				}
				if e.call.Kind != middleware.ServerHTTP || e.call.Service != "web" || e.full != "GET /x" ||
					e.call.Idempotency != middleware.NoSideEffects || !strings.HasPrefix(e.peer, "127.0.0.1:") {
					t.Errorf("the chain saw %+v", e)
				}
			})
		}
	}
}

// TestHTTPServerNothing: a handler that writes nothing because its context has
// ended has not answered 200. What it has written stays.
func TestHTTPServerNothing(t *testing.T) {
	nothing := func(http.ResponseWriter) {}
	for _, tc := range []struct {
		name   string
		end    func(context.Context) (context.Context, context.CancelFunc)
		write  func(http.ResponseWriter)
		status int
		code   codes.Code
	}{
		{"deadline", passed, nothing, http.StatusGatewayTimeout, codes.DeadlineExceeded},
		{"caller gone", gone, nothing, 499, codes.Canceled},
		{"only headers set", gone, func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "x") }, 499, codes.Canceled},
		{"status written", passed, func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, http.StatusNoContent, codes.OK},
		{"body written", gone, func(w http.ResponseWriter) { fmt.Fprint(w, "hi") }, http.StatusOK, codes.OK},
		{"in time", context.WithCancel, nothing, http.StatusOK, codes.OK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := newWatcher()
			end := func(next middleware.Handler) middleware.Handler {
				return func(ctx context.Context, call *middleware.Call) error {
					ctx, cancel := tc.end(ctx)
					defer cancel()
					return next(ctx, call)
				}
			}
			h := middleware.HTTPServer("web", "GET /x", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tc.write(w) }), seen.middleware, end)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
			err := seen.next(t).err
			if rec.Code != tc.status || middleware.Code(err) != tc.code || middleware.HTTPStatusOf(err) != tc.status && err != nil {
				t.Errorf("answered %d %s, the chain saw %v; want %d and %v", rec.Code, rec.Body, err, tc.status, tc.code)
			}
		})
	}
}

func passed(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 0)
}

func gone(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx, cancel
}

// TestHTTPServerCut: what ends in the middle must not look whole.
func TestHTTPServerCut(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"panic after a write", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "half"); panic("x") }},
		{"panic after a flush", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic("x")
		}},
		{"panic after the length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "8")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic("x")
		}},
		{"abort after a flush", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{"abort before anything", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tc.name, h2), func(t *testing.T) {
				w := newWatcher()
				url, client := serveHTTP(t, middleware.HTTPServer("web", "/", tc.handler, w.middleware, recovery.New(nil)), h2)
				st, _, body, err := get(t, client, url)
				if err == nil {
					t.Errorf("got %d %q as a whole response", st, body)
				}
				if e := w.next(t); middleware.Code(e.err) != codes.Internal {
					t.Errorf("the chain saw %v", e.err)
				}
			})
		}
	}
}

func TestHTTPServerHeaders(t *testing.T) {
	type key struct{}
	var inHandler any
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inHandler = r.Context().Value(key{})
		w.WriteHeader(http.StatusInternalServerError)
	})
	var header string
	url, client := serveHTTP(t, middleware.HTTPServer("web", "/", h, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			header = c.Header("user-AGENT")
			c.SetHeader("x-one", "no effect")
			c.SetReply("x-trace-id", "1")
			if c.Reply("x-trace-id") != "" {
				t.Error("Reply works on a server")
			}
			return next(context.WithValue(ctx, key{}, "here"), c)
		}
	}), false)
	st, replies, _, err := get(t, client, url)
	if err != nil || st != 500 || replies.Get("X-Trace-Id") != "1" {
		t.Errorf("got %d %v, %v", st, replies, err)
	}
	if header != "Go-http-client/1.1" || inHandler != "here" {
		t.Errorf("header %q, value in the handler %v", header, inHandler)
	}
}

// TestHTTPServerInformational: 1xx statuses go out and are not the answer.
func TestHTTPServerInformational(t *testing.T) {
	w := newWatcher()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNotFound)
	})
	url, client := serveHTTP(t, middleware.HTTPServer("web", "/", h, w.middleware), false)
	var hints int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		hints = code
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if hints != 103 || resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %d and then %d", hints, resp.StatusCode)
	}
	if e := w.next(t); middleware.HTTPStatusOf(e.err) != 404 {
		t.Errorf("the chain saw %v", e.err)
	}
}

// TestHTTPServerHijack: a handler may take the connection, through either
// interface, and the adapter writes nothing to it then.
func TestHTTPServerHijack(t *testing.T) {
	for name, hijack := range map[string]func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){
		"Hijacker": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) { return w.(http.Hijacker).Hijack() },
		"ResponseController": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(w).Hijack()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher()
			h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := hijack(w)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
				_ = rw.Flush()
				line, _ := rw.ReadString('\n')
				fmt.Fprint(rw, "got "+line)
				_ = rw.Flush()
			})
			url, client := serveHTTP(t, middleware.HTTPServer("web", "/", h, w.middleware), false)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "x")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			rw, ok := resp.Body.(io.ReadWriteCloser)
			if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("got %d with a %T", resp.StatusCode, resp.Body)
			}
			fmt.Fprint(rw, "ping\n")
			if b, err := io.ReadAll(rw); string(b) != "got ping\n" {
				t.Errorf("got %q, %v", b, err)
			}
			if e := w.next(t); e.err != nil {
				t.Errorf("the chain saw %v", e.err)
			}
		})
	}
}

// TestHTTPServerCannotHijack: HTTP/2 has no connection to take.
func TestHTTPServerCannotHijack(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _, err := w.(http.Hijacker).Hijack()
		if !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack: %v", err)
		}
		w.WriteHeader(http.StatusBadRequest)
	})
	url, client := serveHTTP(t, middleware.HTTPServer("web", "/", h), true)
	if st, _, _, err := get(t, client, url); st != 400 || err != nil {
		t.Errorf("got %d, %v", st, err)
	}
}

// TestHTTPServerStreams: what is flushed arrives while the handler goes on.
func TestHTTPServerStreams(t *testing.T) {
	goOn := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "one")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-goOn
		fmt.Fprintln(w, "two")
	})
	w := newWatcher()
	url, client := serveHTTP(t, middleware.HTTPServer("web", "/", h, w.middleware), false)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	if line, err := r.ReadString('\n'); line != "one\n" {
		t.Errorf("got %q, %v", line, err)
	}
	w.none(t)
	close(goOn)
	if line, err := r.ReadString('\n'); line != "two\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if e := w.next(t); e.err != nil {
		t.Errorf("the chain saw %v", e.err)
	}
}
