package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// client starts a server and returns its URL and a client for it with a chain.
func client(t *testing.T, h http.HandlerFunc, chain ...middleware.Middleware) (string, *http.Client) {
	t.Helper()
	url, c := serveHTTP(t, h, false)
	return url, &http.Client{Transport: middleware.RoundTripper("web", c.Transport, chain...)}
}

// trackedBody tells whether it was closed.
type trackedBody struct {
	io.Reader

	closed atomic.Bool
}

func (b *trackedBody) Close() error { b.closed.Store(true); return nil }

func request(t *testing.T, ctx context.Context, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoundTripperOutcome(t *testing.T) {
	for _, tc := range []struct {
		name, method string
		status       int
		body         string
		code         codes.Code
		idempotency  middleware.Idempotency
	}{
		{"get", "GET", 200, "hi", codes.OK, middleware.NoSideEffects},
		{"head", "HEAD", 200, "", codes.OK, middleware.NoSideEffects},
		{"no content", "DELETE", 204, "", codes.OK, middleware.Idempotent},
		{"not modified", "GET", 304, "", codes.OK, middleware.NoSideEffects},
		{"not found", "GET", 404, "nothing here", codes.NotFound, middleware.NoSideEffects},
		{"failed", "PUT", 503, "down", codes.Unavailable, middleware.Idempotent},
		{"head failed", "HEAD", 500, "", codes.Internal, middleware.NoSideEffects},
		{"large", "GET", 200, strings.Repeat("x", 1<<20), codes.OK, middleware.NoSideEffects},
		{"large error", "GET", 500, strings.Repeat("x", 1<<20), codes.Internal, middleware.NoSideEffects},
		{"error at the limit", "GET", 500, strings.Repeat("x", 64<<10), codes.Internal, middleware.NoSideEffects},
		{"error above the limit", "GET", 500, strings.Repeat("x", 64<<10+1), codes.Internal, middleware.NoSideEffects},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWatcher()
			var declared middleware.Idempotency
			url, c := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Kept", "yes")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}, before(func(_ context.Context, c *middleware.Call) { declared = c.Idempotency }), w.middleware)
			resp, err := c.Do(request(t, t.Context(), tc.method, url, nil))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != tc.body || resp.StatusCode != tc.status || resp.Header.Get("X-Kept") != "yes" {
				t.Errorf("got %d with %d bytes, %v, %v", resp.StatusCode, len(body), resp.Header, err)
			}
			e := w.next(t) // before the body is closed: its end is enough
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
			if middleware.Code(e.err) != tc.code || tc.status >= 400 && middleware.HTTPStatusOf(e.err) != tc.status {
				t.Errorf("the chain saw %v", e.err)
			}
			if e.call.Kind != middleware.ClientHTTP || e.call.Target != "web" || e.full != tc.method || declared != tc.idempotency {
				t.Errorf("the chain saw %+v, idempotency %v", e, declared)
			}
		})
	}
}

// TestRoundTripperEndsWithBody: the chain lasts as long as the body.
func TestRoundTripperEndsWithBody(t *testing.T) {
	finish := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	}
	defer close(finish)
	t.Run("closed early", func(t *testing.T) {
		w := newWatcher()
		url, c := client(t, handler, w.middleware)
		resp, err := c.Do(request(t, t.Context(), "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		w.none(t)
		resp.Body.Close()
		if e := w.next(t); e.err != nil {
			t.Errorf("the chain saw %v", e.err)
		}
	})
	t.Run("cancelled while reading", func(t *testing.T) {
		w := newWatcher()
		url, c := client(t, handler, w.middleware)
		ctx, cancel := context.WithCancelCause(t.Context())
		resp, err := c.Do(request(t, ctx, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		w.none(t)
		cancel(errors.New("a cause that is no context error"))
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the body ends well")
		}
		if e := w.next(t); middleware.Code(e.err) != codes.Canceled {
			t.Errorf("the chain saw %v", e.err)
		}
	})
	t.Run("abandoned", func(t *testing.T) {
		w := newWatcher()
		url, c := client(t, handler, w.middleware)
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := c.Do(request(t, ctx, "GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		w.none(t)
		cancel()
		if e := w.next(t); middleware.Code(e.err) != codes.Canceled {
			t.Errorf("the chain saw %v", e.err)
		}
		resp.Body.Close()
	})
}

// TestRoundTripperCancelled: the request ends before there is a response.
func TestRoundTripperCancelled(t *testing.T) {
	for name, status := range map[string]int{"before the headers": 0, "in an error's body": 500} {
		t.Run(name, func(t *testing.T) {
			w := newWatcher()
			arrived := make(chan struct{})
			url, c := client(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then net/http sees the client go
				if status != 0 {
					w.WriteHeader(status)
					_ = http.NewResponseController(w).Flush()
				}
				close(arrived)
				<-r.Context().Done()
			}, w.middleware)
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { <-arrived; cancel(errors.New("a cause that is no context error")) }()
			body := &trackedBody{Reader: strings.NewReader("x")}
			resp, err := c.Do(request(t, ctx, "POST", url, body))
			if err == nil {
				resp.Body.Close()
				t.Fatalf("got %d", resp.StatusCode)
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("err = %v", err)
			}
			if e := w.next(t); middleware.Code(e.err) != codes.Canceled {
				t.Errorf("the chain saw %v", e.err)
			}
			if !body.closed.Load() {
				t.Error("the request's body was not closed")
			}
		})
	}
}

func TestRoundTripperReplay(t *testing.T) {
	for _, tc := range []struct {
		name     string
		body     func() io.Reader
		attempts int
	}{
		{"replayable", func() io.Reader { return bytes.NewReader([]byte("payload")) }, 3},
		{"once", func() io.Reader { return io.NopCloser(strings.NewReader("payload")) }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			var attempts []string
			url, c := client(t, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got = append(got, string(b))
				attempts = append(attempts, r.Header.Get("X-Attempt"))
				w.Header().Set("X-Reply", strconv.Itoa(len(got)))
				http.Error(w, "down "+strconv.Itoa(len(got)), http.StatusServiceUnavailable)
			}, func(next middleware.Handler) middleware.Handler {
				return func(ctx context.Context, c *middleware.Call) (err error) {
					for i := range 3 {
						c.SetHeader("x-attempt", strconv.Itoa(i))
						if c.Header("X-Attempt") != strconv.Itoa(i) {
							t.Error("SetHeader is not seen by Header")
						}
						err = next(ctx, c)
						if want := min(i+1, tc.attempts); c.Reply("x-reply") != strconv.Itoa(want) {
							t.Errorf("Reply after attempt %d = %q", i, c.Reply("x-reply"))
						}
					}
					return err
				}
			})
			req := request(t, t.Context(), "PUT", url, tc.body())
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if want := fmt.Sprintf("down %d\n", tc.attempts); resp.StatusCode != http.StatusServiceUnavailable || string(b) != want || err != nil {
				t.Errorf("got %d %q, %v", resp.StatusCode, b, err)
			}
			if len(got) != tc.attempts {
				t.Errorf("%d attempts: %q", len(got), got)
			}
			for i := range got {
				if got[i] != "payload" || attempts[i] != strconv.Itoa(i) {
					t.Errorf("attempt %d had body %q and header %q", i, got[i], attempts[i])
				}
			}
			if req.Header.Get("X-Attempt") != "" {
				t.Error("the caller's request was changed")
			}
			if resp.Request == nil || resp.Request.Header.Get("X-Attempt") != "" {
				t.Error("the response does not have the caller's request")
			}
		})
	}
}

// TestRoundTripperBodyOnce: what cannot be replayed does not look repeatable to
// a retry.
func TestRoundTripperBodyOnce(t *testing.T) {
	seen := make(chan middleware.Idempotency, 2)
	url, c := client(t, func(http.ResponseWriter, *http.Request) {}, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			seen <- c.Idempotency
			err := next(ctx, c)
			seen <- c.Idempotency
			return err
		}
	})
	for _, tc := range []struct {
		method       string
		body         io.Reader
		ctx          context.Context
		before, then middleware.Idempotency
	}{
		{"PUT", io.NopCloser(strings.NewReader("x")), t.Context(), middleware.IdempotencyUnknown, middleware.IdempotencyUnknown},
		{"PUT", strings.NewReader("x"), t.Context(), middleware.Idempotent, middleware.IdempotencyUnknown},
		{"POST", strings.NewReader("x"), t.Context(), middleware.IdempotencyUnknown, middleware.IdempotencyUnknown},
		{"POST", strings.NewReader("x"), middleware.WithIdempotency(t.Context(), middleware.Idempotent), middleware.Idempotent, middleware.IdempotencyUnknown},
		{"POST", io.NopCloser(strings.NewReader("x")), middleware.WithIdempotency(t.Context(), middleware.Idempotent), middleware.IdempotencyUnknown, middleware.IdempotencyUnknown},
	} {
		resp, err := c.Do(request(t, tc.ctx, tc.method, url, tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if before, then := <-seen, <-seen; before != tc.before || then != tc.then {
			t.Errorf("%s: %v and then %v, want %v and %v", tc.method, before, then, tc.before, tc.then)
		}
	}
}

// TestRoundTripperNotSent: the body is closed, and the caller gets an error,
// when a middleware does not send the request.
func TestRoundTripperNotSent(t *testing.T) {
	no := errors.New("no")
	for name, tc := range map[string]struct {
		m    middleware.Middleware
		want string
	}{
		"error":   {answer(no), "no"},
		"nothing": {answer(nil), "answered without sending it"},
		"Goexit":  {before(func(context.Context, *middleware.Call) { runtime.Goexit() }), "ended its goroutine"},
		// An HTTPError that no response stands behind is an error as well.
		"status": {answer(&middleware.HTTPError{Status: 429}), "HTTP status 429"},
	} {
		t.Run(name, func(t *testing.T) {
			url, c := client(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }, tc.m)
			body := &trackedBody{Reader: strings.NewReader("x")}
			resp, err := c.Do(request(t, t.Context(), "POST", url, body))
			if err == nil {
				resp.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want %q", err, tc.want)
			}
			if !body.closed.Load() {
				t.Error("the request's body was not closed")
			}
		})
	}
}

// TestRoundTripperRecovers: an error response that a later attempt makes good,
// and one that a middleware forgives.
func TestRoundTripperRecovers(t *testing.T) {
	n := 0
	url, c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "up")
	}, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			if err := next(ctx, c); err == nil {
				return nil
			}
			return next(ctx, c)
		}
	})
	if st, _, body, err := get(t, c, url); st != 200 || body != "up" || err != nil {
		t.Errorf("got %d %q, %v", st, body, err)
	}

	url, c = client(t, http.NotFound, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error { _ = next(ctx, c); return nil }
	})
	if st, _, body, err := get(t, c, url); st != 404 || body != "404 page not found\n" || err != nil {
		t.Errorf("forgiven: got %d %q, %v", st, body, err)
	}
}

// TestRoundTripperUpgrade: a 101 hands its connection over, whole.
func TestRoundTripperUpgrade(t *testing.T) {
	w := newWatcher()
	url, c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(rw, line)
		_ = rw.Flush()
	}, w.middleware)
	req := request(t, t.Context(), "GET", url, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "x")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if e := w.next(t); e.err != nil {
		t.Errorf("the chain saw %v", e.err)
	}
	rw, ok := resp.Body.(io.ReadWriter)
	if !ok {
		t.Fatalf("the body is a %T", resp.Body)
	}
	fmt.Fprint(rw, "ping\n")
	if b, err := io.ReadAll(rw); string(b) != "ping\n" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestRoundTripperBrokenBody: the connection breaks after the headers.
func TestRoundTripperBrokenBody(t *testing.T) {
	for _, st := range []int{200, 500} {
		w := newWatcher()
		url, c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(st)
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, w.middleware)
		if got, _, body, err := get(t, c, url); err == nil {
			t.Errorf("got %d %q as a whole response", got, body)
		}
		if e := w.next(t); e.err == nil {
			t.Errorf("%d: the chain saw no error", st)
		}
	}
}

func TestRoundTripperMethods(t *testing.T) {
	w := newWatcher()
	url, c := client(t, func(http.ResponseWriter, *http.Request) {}, w.middleware)
	for method, want := range map[string]string{"": "GET", "PATCH": "PATCH", "BREW": "OTHER"} {
		req := request(t, t.Context(), "GET", url, nil)
		req.Method = method
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if e := w.next(t); e.call.Method != want {
			t.Errorf("%q is %q, want %q", method, e.call.Method, want)
		}
	}
}
