package middleware_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
)

// attemptHeader tells a server which attempt it sees: "own" or "fork".
const attemptHeader = "X-Attempt"

// both is a middleware that runs the call and a fork of it at once, waits for
// both, and adopts the fork where it went well and the call's own attempt did
// not. The first one that goes well ends the other.
func both(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		fork, ok := call.Fork()
		if !ok || !call.Replayable() || !fork.Replayable() {
			return errors.New("the call cannot be forked")
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		run := func(c *middleware.Call, name string) error {
			c.SetHeader(attemptHeader, name)
			c.Attempts++
			c.Instance = name
			err := next(ctx, c)
			if err == nil && !c.Kind.HTTP() {
				cancel()
			}
			return err
		}
		var own, forked error
		var wg sync.WaitGroup
		wg.Go(func() { own = run(call, "own") })
		wg.Go(func() { forked = run(fork, "fork") })
		wg.Wait()
		if own == nil || forked != nil && !errors.Is(own, middleware.ErrAnswered) {
			call.Attempts += fork.Attempts
			return own
		}
		call.Adopt(fork)
		return forked
	}
}

// answering has only one of the attempts answered, once both have arrived; the
// others wait until they are cancelled.
func answering(winner string) func(ctx context.Context, attempt string) error {
	var arrived sync.WaitGroup
	arrived.Add(2)
	return func(ctx context.Context, attempt string) error {
		arrived.Done()
		arrived.Wait()
		if attempt == winner {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestForkUnary(t *testing.T) {
	for _, winner := range []string{"own", "fork"} {
		t.Run(winner, func(t *testing.T) {
			handle := answering(winner)
			w := newWatcher()
			var reply string
			cc := pair{
				e: echo{handle: func(ctx context.Context) error {
					attempt := metadata.ValueFromIncomingContext(ctx, attemptHeader)[0]
					err := handle(ctx, attempt)
					_ = grpc.SetHeader(ctx, metadata.Pairs("x-served", attempt))
					_ = grpc.SetTrailer(ctx, metadata.Pairs("x-end", attempt))
					return err
				}},
				client: []middleware.Middleware{w.middleware, after(func(c *middleware.Call, _ error) { reply = c.Reply("x-end") }), both},
			}.start(t)
			var header, trailer metadata.MD
			var from peer.Peer
			var finished []error
			got, err := say(t.Context(), cc, "hello", grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from),
				grpc.OnFinish(func(err error) { finished = append(finished, err) }))
			if err != nil || got != "hello" {
				t.Fatalf("Say = %q, %v", got, err)
			}
			if !has(header, "x-served", winner) || !has(trailer, "x-end", winner) || from.Addr == nil || reply != winner {
				t.Errorf("header %v, trailer %v, peer %v, reply %q", header, trailer, from.Addr, reply)
			}
			if len(finished) == 0 || finished[len(finished)-1] != nil {
				t.Errorf("OnFinish was told %v", finished)
			}
			if e := w.next(t); e.call.Attempts != 2 || e.call.Instance != winner || e.err != nil || e.peer == "" {
				t.Errorf("the chain saw %+v", e)
			}
		})
	}
}

// TestForkUnaryFails: the reply of a call that fails stays as it was.
func TestForkUnaryFails(t *testing.T) {
	adopt := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			fork, _ := call.Fork()
			err := next(ctx, fork)
			call.Adopt(fork)
			return err
		}
	}
	cc := pair{
		e:      echo{handle: func(context.Context) error { return status.Error(codes.Aborted, "no") }},
		client: []middleware.Middleware{adopt},
	}.start(t)
	reply := wrapperspb.String("mine")
	if err := cc.Invoke(t.Context(), sayMethod, wrapperspb.String("x"), reply); status.Code(err) != codes.Aborted || reply.GetValue() != "mine" {
		t.Errorf("reply %v, %v", reply, err)
	}
}

// TestForkOfFork: forks can be forked, and are adopted one by one.
func TestForkOfFork(t *testing.T) {
	nested := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			first, _ := call.Fork()
			second, ok := first.Fork()
			if !ok {
				return errors.New("the fork cannot be forked")
			}
			other, _ := call.Fork()
			err := next(ctx, second)
			first.Adopt(other) // another call's: ignored
			first.Adopt(second)
			call.Adopt(first)
			call.Adopt(call)
			call.Adopt(nil)
			return err
		}
	}
	cc := pair{client: []middleware.Middleware{nested}}.start(t)
	var header metadata.MD
	var from peer.Peer
	got, err := say(t.Context(), cc, "hello", grpc.Header(&header), grpc.Peer(&from))
	if err != nil || got != "hello" || !has(header, "content-type", "application/grpc") || from.Addr == nil {
		t.Errorf("Say = %q, %v, header %v, peer %v", got, err, header, from.Addr)
	}
	url, c := client(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, nested)
	if code, _, _, err := get(t, c, url); err != nil || code != http.StatusTeapot {
		t.Errorf("GET = %d, %v", code, err)
	}
}

// TestAdoptMovesMessages: everything that is in a message arrives, and nothing
// of what was there before stays.
func TestAdoptMovesMessages(t *testing.T) {
	sent, err := structpb.NewStruct(map[string]any{"list": []any{1.5, "x", nil}, "deep": map[string]any{"a": true}})
	if err != nil {
		t.Fatal(err)
	}
	sent.ProtoReflect().SetUnknown([]byte{0xa0, 0x06, 0x01})
	reply, err := structpb.NewStruct(map[string]any{"old": "value"})
	if err != nil {
		t.Fatal(err)
	}
	interceptor := middleware.UnaryClient("echo", both)
	err = interceptor(t.Context(), "/a.B/C", nil, reply, nil, func(ctx context.Context, _ string, _, out any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		md, _ := metadata.FromOutgoingContext(ctx)
		if has(md, attemptHeader, "own") {
			return status.Error(codes.Unavailable, "no")
		}
		m, _ := out.(proto.Message)
		proto.Merge(m, sent)
		return nil
	})
	if err != nil || !proto.Equal(sent, reply) {
		t.Errorf("got %v, %v", reply, err)
	}
}

func TestForkIsRefused(t *testing.T) {
	refused := make(chan bool, 10)
	try := before(func(_ context.Context, c *middleware.Call) {
		_, ok := c.Fork()
		c.Adopt(&middleware.Call{})
		refused <- !ok && (!c.Replayable() || c.Kind == middleware.ClientUnary)
	})
	check := func(name string) {
		t.Helper()
		if !<-refused {
			t.Errorf("%s can be forked", name)
		}
	}
	cc := pair{server: []middleware.Middleware{try}}.start(t)
	if _, err := say(t.Context(), cc, "x"); err != nil {
		t.Fatal(err)
	}
	check("a call on the server")
	s, err := open(t.Context(), cc, collectMethod)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.CloseSend()
	_ = s.RecvMsg(new(wrapperspb.StringValue))
	check("a stream on the server")
	url, _ := serveHTTP(t, middleware.HTTPServer("web", "/", http.NotFoundHandler(), try), false)
	if _, _, _, err := get(t, http.DefaultClient, url); err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	check("a request on the server")

	nothing := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	_ = middleware.UnaryClient("echo", try)(t.Context(), "/a.B/C", nil, new(string), nil, nothing)
	check("a reply that is no message")
	_ = middleware.UnaryClient("echo", try)(t.Context(), "/a.B/C", nil, (*wrapperspb.StringValue)(nil), nil, nothing)
	check("no reply")
	_, _ = middleware.StreamClient("echo", try)(t.Context(), &grpc.StreamDesc{}, nil, "/a.B/C",
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return nil, errors.New("no")
		})
	check("a stream on the client")
	url, c := client(t, func(http.ResponseWriter, *http.Request) {}, try)
	resp, err := c.Do(request(t, t.Context(), "POST", url, io.MultiReader(strings.NewReader("x"))))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	check("a body that is there once")
}

// TestForkHTTP: the first response goes to the caller while the other attempt is
// ended, and each attempt sends the whole body.
func TestForkHTTP(t *testing.T) {
	for _, winner := range []string{"own", "fork"} {
		t.Run(winner, func(t *testing.T) {
			handle := answering(winner)
			w := newWatcher()
			url, c := client(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != "question" {
					t.Errorf("%s sent %q, %v", r.Header.Get(attemptHeader), body, err)
				}
				if handle(r.Context(), r.Header.Get(attemptHeader)) == nil {
					_, _ = io.WriteString(w, winner)
				}
			}, w.middleware, both)
			resp, err := c.Do(request(t, t.Context(), "PUT", url, strings.NewReader("question")))
			if err != nil {
				t.Fatal(err)
			}
			w.none(t) // the chain lasts as long as the body
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(body) != winner {
				t.Errorf("got %q, %v", body, err)
			}
			if e := w.next(t); e.err != nil || e.call.Attempts != 2 || e.call.Instance != winner || e.call.Idempotency != middleware.IdempotencyUnknown {
				t.Errorf("the chain saw %+v", e)
			}
		})
	}
}

// TestForkAnswered: what has not begun yet can be asked whether it is still needed.
func TestForkAnswered(t *testing.T) {
	before, after := make(chan bool, 1), make(chan bool, 1)
	url, c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "answer")
	}, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			fork, ok := call.Fork()
			if !ok {
				t.Error("the call cannot be forked")
			}
			before <- fork.Answered()
			err := next(ctx, call)
			after <- fork.Answered()
			return err
		}
	})
	if _, _, _, err := get(t, c, url); err != nil {
		t.Fatal(err)
	}
	if <-before || !<-after {
		t.Error("it is needed after the answer, or not before it")
	}
}

// TestForkHTTPFails: where all attempts fail the one that is adopted is the
// caller's response; an attempt that failed first does not end the other.
func TestForkHTTPFails(t *testing.T) {
	for _, tc := range []struct {
		name      string
		own, fork int
		want      int
	}{
		{"both", 503, 500, 503},
		{"own", 503, 200, 200},
		{"fork", 200, 503, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, c := client(t, func(w http.ResponseWriter, r *http.Request) {
				code := tc.own
				if r.Header.Get(attemptHeader) == "fork" {
					code = tc.fork
				}
				w.Header().Set("X-Code", http.StatusText(code))
				w.WriteHeader(code)
				_, _ = io.WriteString(w, "body")
			}, both)
			code, h, body, err := get(t, c, url)
			if err != nil || code != tc.want || h.Get("X-Code") != http.StatusText(tc.want) || body != "body" {
				t.Errorf("got %d %v %q, %v", code, h, body, err)
			}
		})
	}
}

// closeTracker is a transport that keeps the bodies of its responses.
type closeTracker struct {
	mu     sync.Mutex
	bodies map[string]*trackedBody // by attempt
	wait   func(attempt string)
}

func (tr *closeTracker) RoundTrip(r *http.Request) (*http.Response, error) {
	attempt := r.Header.Get(attemptHeader)
	body := &trackedBody{Reader: strings.NewReader(attempt)}
	tr.mu.Lock()
	tr.bodies[attempt] = body
	tr.mu.Unlock()
	tr.wait(attempt)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, Request: r}, nil
}

// TestForkHTTPLoserIsClosed: of two responses only one is delivered, the other
// one's body is closed, and no attempt begins after that.
func TestForkHTTPLoserIsClosed(t *testing.T) {
	var arrived sync.WaitGroup
	arrived.Add(2)
	tr := &closeTracker{bodies: map[string]*trackedBody{}, wait: func(string) { arrived.Done(); arrived.Wait() }}
	w := newWatcher()
	var late, again error
	rt := middleware.RoundTripper("web", tr, w.middleware, func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			spare, _ := call.Fork()
			err := both(next)(ctx, call)
			late = next(ctx, spare)
			again = next(ctx, call)
			return err
		}
	})
	resp, err := rt.RoundTrip(request(t, t.Context(), "GET", "http://web/", nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	winner, loser := string(b), map[string]string{"own": "fork", "fork": "own"}[string(b)]
	if err != nil || loser == "" {
		t.Fatalf("got %q, %v", winner, err)
	}
	w.next(t)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.bodies[loser].closed.Load() || !tr.bodies[winner].closed.Load() || len(tr.bodies) != 2 {
		t.Errorf("%s won; bodies %v", winner, tr.bodies)
	}
	if !errors.Is(late, middleware.ErrAnswered) || middleware.Code(late) != codes.Canceled || again != nil {
		t.Errorf("attempts after the end return %v and %v", late, again)
	}
}
