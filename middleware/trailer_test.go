package middleware_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
)

// raw is what no text header can hold.
const raw = "\x00\xff, \n"

// after is a middleware that calls fn after the call.
func after(fn func(call *middleware.Call, err error)) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			err := next(ctx, call)
			fn(call, err)
			return err
		}
	}
}

// TestSetTrailer: what is set after the outcome is known arrives with every
// outcome, and with nothing before it.
func TestSetTrailer(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
	}{{"well", nil}, {"failed", status.Error(codes.Aborted, "no")}} {
		t.Run(tc.name, func(t *testing.T) {
			var reply string
			p := pair{
				e: echo{handle: func(context.Context) error { return tc.err }},
				server: []middleware.Middleware{after(func(c *middleware.Call, _ error) {
					c.SetTrailer("x-load-bin", "replaced")
					c.SetTrailer("X-Load-Bin", raw)
				})},
				client: []middleware.Middleware{after(func(c *middleware.Call, _ error) { reply = c.Reply("X-Load-Bin") })},
			}
			cc := p.start(t)
			var header, trailer metadata.MD
			if _, err := say(t.Context(), cc, "x", grpc.Header(&header), grpc.Trailer(&trailer)); status.Code(err) != status.Code(tc.err) {
				t.Fatal(err)
			}
			if !has(trailer, "x-load-bin", raw) || len(header.Get("x-load-bin")) > 0 || reply != raw {
				t.Errorf("unary: trailer %q, header %q, reply %q", trailer, header, reply)
			}
			s, err := open(t.Context(), cc, repeatMethod)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SendMsg(wrapperspb.String("x")) // the server may have answered already
			if _, err := drain(s); status.Code(err) != status.Code(tc.err) {
				t.Fatal(err)
			}
			if !has(s.Trailer(), "x-load-bin", raw) {
				t.Errorf("stream: trailer %q", s.Trailer())
			}
		})
	}
}

func TestSetTrailerHTTP(t *testing.T) {
	trailer := after(func(c *middleware.Call, _ error) { c.SetTrailer("x-load-bin", raw) })
	reply := before(func(_ context.Context, c *middleware.Call) { c.SetReply("x-reply-bin", raw) })
	refuse := answer(status.Error(codes.Unavailable, "no"))
	for _, tc := range []struct {
		name  string
		chain []middleware.Middleware
		want  string // of the trailer
	}{
		{"handler has answered", []middleware.Middleware{trailer, reply}, ""},
		{"nobody has answered", []middleware.Middleware{trailer, reply, refuse}, "AP8sIAo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, c := serveHTTP(t, middleware.HTTPServer("web", "/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "hi")
			}), tc.chain...), false)
			_, h, _, err := get(t, c, url)
			if err != nil || h.Get("X-Load-Bin") != tc.want || h.Get("X-Reply-Bin") != "AP8sIAo" {
				t.Errorf("%v, %v", h, err)
			}
		})
	}
}

// TestBinaryHTTP: bytes arrive over HTTP as they do over gRPC.
func TestBinaryHTTP(t *testing.T) {
	for in, want := range map[string]string{"AP8sIAo": raw, "AP8sIAo=": raw, "not base64": "", "": ""} {
		var request, reply string
		handler := middleware.HTTPServer("web", "/", http.NotFoundHandler(), before(func(_ context.Context, c *middleware.Call) {
			request = c.Header("X-Own-Bin")
		}))
		url, c := client(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Reply-Bin", in)
			handler.ServeHTTP(w, r)
		}, before(func(_ context.Context, c *middleware.Call) {
			c.SetHeader("x-own-bin", raw)
			if c.Header("x-own-bin") != raw {
				t.Error("a header that was set cannot be read")
			}
		}), after(func(c *middleware.Call, _ error) { reply = c.Reply("x-reply-bin") }))
		if _, _, _, err := get(t, c, url); err != nil || request != raw || reply != want {
			t.Errorf("%q: request %q, reply %q, %v", in, request, reply, err)
		}
	}
}

// TestBeforeReply: it is the last moment for SetReply, and runs once.
func TestBeforeReply(t *testing.T) {
	var ran []string
	m := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			c.BeforeReply(func() { ran = append(ran, "first") })
			c.BeforeReply(func() {
				ran = append(ran, "second")
				c.SetReply("x-late", "yes")
			})
			err := next(ctx, c)
			ran = append(ran, "end")
			return err
		}
	}
	check := func(t *testing.T, want string, late bool) {
		t.Helper()
		if got := strings.Join(ran, " "); got != want || !late {
			t.Errorf("ran %q, want %q; reply arrived: %v", got, want, late)
		}
		ran = nil
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		chain   []middleware.Middleware
		want    string
	}{
		{"write", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hi")
			_, _ = io.WriteString(w, "hi")
		}, nil, "first second end"},
		{"status", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			ran = append(ran, "hint")
			w.WriteHeader(http.StatusNotFound)
		}, nil, "hint first second end"},
		{"flush", func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() }, nil, "first second end"},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, nil, "first second end"},
		{"refused", nil, []middleware.Middleware{answer(status.Error(codes.Aborted, "no"))}, "end first second"},
	} {
		t.Run("http "+tc.name, func(t *testing.T) {
			url, c := serveHTTP(t, middleware.HTTPServer("web", "/", tc.handler, append([]middleware.Middleware{m}, tc.chain...)...), false)
			_, h, _, err := get(t, c, url)
			if err != nil {
				t.Fatal(err)
			}
			check(t, tc.want, h.Get("X-Late") == "yes")
		})
	}
	t.Run("grpc", func(t *testing.T) {
		cc := pair{server: []middleware.Middleware{m}}.start(t)
		var header metadata.MD
		if _, err := say(t.Context(), cc, "x", grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		check(t, "end first second", has(header, "x-late", "yes"))
		s, err := open(t.Context(), cc, repeatMethod)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMsg(wrapperspb.String("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := drain(s); err != nil {
			t.Fatal(err)
		}
		header, err = s.Header()
		if err != nil {
			t.Fatal(err)
		}
		check(t, "first second end", has(header, "x-late", "yes"))
	})
}

// TestSetHeaderAgain: a header can be replaced and taken back, and what the
// caller itself has set is then sent again.
func TestSetHeaderAgain(t *testing.T) {
	seen := make(chan [2]string, 10)
	record := before(func(_ context.Context, c *middleware.Call) {
		seen <- [2]string{c.Header("X-Limit"), c.Header("x-other")}
	})
	thrice := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			c.SetHeader("x-limit", "1")
			c.SetHeader("x-other", "2")
			c.SetHeader("x-never", "")
			_ = next(ctx, c)
			c.SetHeader("X-Limit", "")
			_ = next(ctx, c)
			c.SetHeader("x-other", "3")
			return next(ctx, c)
		}
	}
	check := func(t *testing.T, own string) {
		t.Helper()
		for _, want := range [][2]string{{"1", "2"}, {own, "2"}, {own, "3"}} {
			if got := <-seen; got != want {
				t.Errorf("the server saw %q, want %q", got, want)
			}
		}
	}
	for _, own := range []string{"", "own"} {
		t.Run("grpc "+own, func(t *testing.T) {
			cc := pair{server: []middleware.Middleware{record}, client: []middleware.Middleware{thrice}}.start(t)
			ctx := t.Context()
			if own != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "x-limit", own)
			}
			if _, err := say(ctx, cc, "x"); err != nil {
				t.Fatal(err)
			}
			check(t, own)
		})
		t.Run("http "+own, func(t *testing.T) {
			url, c := client(t, middleware.HTTPServer("web", "/", http.NotFoundHandler(), record).ServeHTTP, thrice)
			r := request(t, t.Context(), "GET", url, nil)
			if own != "" {
				r.Header.Set("X-Limit", own)
			}
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			check(t, own)
		})
	}
}
