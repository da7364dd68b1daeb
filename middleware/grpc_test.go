package middleware_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
)

func TestUnary(t *testing.T) {
	server, client := newWatcher(), newWatcher()
	cc := pair{server: []middleware.Middleware{server.middleware}, client: []middleware.Middleware{client.middleware}}.start(t)
	got, err := say(t.Context(), cc, "hello")
	if err != nil || got != "hello" {
		t.Fatalf("Say = %q, %v", got, err)
	}
	s := server.next(t)
	if s.err != nil || s.call.Kind != middleware.ServerUnary || s.full != "test.v1.Echo/Say" || s.peer != "bufconn" || s.call.Target != "" {
		t.Errorf("server saw %+v", s)
	}
	c := client.next(t)
	if c.err != nil || c.call.Kind != middleware.ClientUnary || c.full != "test.v1.Echo/Say" || c.peer != "bufconn" || c.call.Target != "echo" {
		t.Errorf("client saw %+v", c)
	}
	if s.call.Start.IsZero() || c.call.Start.IsZero() {
		t.Error("Start is not set")
	}
}

// TestOutcome follows errors of a handler and of a middleware to the caller.
func TestOutcome(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want codes.Code
	}{
		{"status", status.Error(codes.NotFound, "no"), codes.NotFound},
		{"plain", errors.New("no"), codes.Unknown},
		{"context", context.DeadlineExceeded, codes.DeadlineExceeded},
		{"wrapped", errors.Join(errors.New("no"), status.Error(codes.Aborted, "no")), codes.Aborted},
		{"http", &middleware.HTTPError{Status: 403}, codes.PermissionDenied},
		{"false OK", falseOKError{}, codes.Unknown},
	} {
		for _, where := range []string{"handler", "server middleware", "client middleware"} {
			t.Run(tc.name+"/"+where, func(t *testing.T) {
				server, client := newWatcher(), newWatcher()
				p := pair{server: []middleware.Middleware{server.middleware}, client: []middleware.Middleware{client.middleware}}
				switch where {
				case "handler":
					p.e.handle = func(context.Context) error { return tc.err }
				case "server middleware":
					p.server = append(p.server, answer(tc.err))
				case "client middleware":
					p.client = append(p.client, answer(tc.err))
				}
				cc := p.start(t)
				_, err := say(t.Context(), cc, "x")
				if got := status.Code(err); got != tc.want {
					t.Errorf("unary: %v, want %v", err, tc.want)
				}
				if c := client.next(t); middleware.Code(c.err) != tc.want {
					t.Errorf("unary: the client's chain saw %v", c.err)
				}
				stream, err := open(t.Context(), cc, chatMethod)
				if err == nil {
					_, err = drain(stream)
				}
				if got := status.Code(err); got != tc.want {
					t.Errorf("stream: %v, want %v", err, tc.want)
				}
				if c := client.next(t); middleware.Code(c.err) != tc.want {
					t.Errorf("stream: the client's chain saw %v", c.err)
				}
				if where != "client middleware" {
					for range 2 {
						if s := server.next(t); middleware.Code(s.err) != tc.want {
							t.Errorf("the server's chain saw %v", s.err)
						}
					}
				}
			})
		}
	}
}

// TestClientErrorKeepsItsType: callers may look for an error of a middleware.
func TestClientErrorKeepsItsType(t *testing.T) {
	cc := pair{client: []middleware.Middleware{answer(&middleware.HTTPError{Status: 429})}}.start(t)
	_, err := say(t.Context(), cc, "x")
	if e, ok := errors.AsType[*middleware.HTTPError](err); !ok || e.Status != 429 {
		t.Errorf("unary: %T %v", err, err)
	}
	_, err = open(t.Context(), cc, chatMethod)
	if e, ok := errors.AsType[*middleware.HTTPError](err); !ok || e.Status != 429 {
		t.Errorf("stream: %T %v", err, err)
	}
}

func TestRequestHeaders(t *testing.T) {
	var seen metadata.MD
	var viaCall [3]string
	var clientSaw [3]string
	cc := pair{
		e: echo{handle: func(ctx context.Context) error {
			seen, _ = metadata.FromIncomingContext(ctx)
			return nil
		}},
		server: []middleware.Middleware{before(func(_ context.Context, c *middleware.Call) {
			c.SetHeader("x-late", "no effect")
			viaCall = [3]string{c.Header("X-One"), c.Header("x-two"), c.Header("x-none")}
		})},
		client: []middleware.Middleware{before(func(_ context.Context, c *middleware.Call) {
			clientSaw[0] = c.Header("x-Two")
			c.SetHeader("X-One", "1")
			c.SetHeader("x-one", "one")
			c.SetHeader("X-Two", "mine")
			clientSaw[1], clientSaw[2] = c.Header("X-ONE"), c.Header("x-two")
			c.SetReply("x-reply", "no effect")
		})},
	}.start(t)
	for _, unary := range []bool{true, false} {
		seen, viaCall, clientSaw = nil, [3]string{}, [3]string{}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-two", "theirs", "x-three", "3")
		if unary {
			if _, err := say(ctx, cc, "x"); err != nil {
				t.Fatal(err)
			}
		} else {
			s, err := open(ctx, cc, repeatMethod)
			if err == nil {
				err = s.SendMsg(wrapperspb.String("x"))
			}
			if err == nil {
				_, err = drain(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !has(seen, "x-one", "one") || !has(seen, "x-two", "mine") || !has(seen, "x-three", "3") || !has(seen, "x-late") {
			t.Errorf("unary %v: the handler saw %v", unary, seen)
		}
		if viaCall != [3]string{"one", "mine", ""} {
			t.Errorf("unary %v: Header on the server: %q", unary, viaCall)
		}
		if clientSaw != [3]string{"theirs", "one", "mine"} {
			t.Errorf("unary %v: Header on the client: %q", unary, clientSaw)
		}
	}
}

// TestReplies checks where SetReply puts its values: into the headers of a call
// that goes well, into the trailers of one that fails, which then has no
// headers at all.
func TestReplies(t *testing.T) {
	fails := status.Error(codes.Unavailable, "no")
	for _, tc := range []struct {
		name   string
		handle func(context.Context) error
		fail   bool
		where  string // "header" or "trailer"
	}{
		{"success", nil, false, "header"},
		{"failure", func(context.Context) error { return fails }, true, "trailer"},
		{"sent early", func(ctx context.Context) error { _ = grpc.SendHeader(ctx, nil); return nil }, false, "trailer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := newWatcher()
			replies := make(chan string, 10)
			cc := pair{
				e: echo{handle: tc.handle},
				server: []middleware.Middleware{before(func(_ context.Context, c *middleware.Call) {
					c.SetReply("X-Reply", "yes")
				})},
				client: []middleware.Middleware{func(next middleware.Handler) middleware.Handler {
					return func(ctx context.Context, c *middleware.Call) error {
						err := next(ctx, c)
						replies <- c.Reply("x-reply")
						return err
					}
				}, client.middleware},
			}.start(t)
			var header, trailer metadata.MD
			_, err := say(t.Context(), cc, "x", grpc.Header(&header), grpc.Trailer(&trailer))
			check := func(kind string) {
				t.Helper()
				if (err != nil) != tc.fail {
					t.Fatalf("%s: err = %v", kind, err)
				}
				inHeader, inTrailer := has(header, "x-reply", "yes"), has(trailer, "x-reply", "yes")
				if inHeader != (tc.where == "header") || inTrailer != (tc.where == "trailer") {
					t.Errorf("%s: header %v, trailer %v", kind, header, trailer)
				}
				// In a trailers-only response grpc reports the one block as
				// trailers; headers sent early would have a content type.
				if tc.fail && len(header.Get("content-type")) > 0 && len(trailer.Get("content-type")) == 0 {
					t.Errorf("%s: headers were sent before the failure: %v", kind, header)
				}
			}
			check("unary")
			if got := <-replies; (got == "yes") != (tc.where == "trailer") {
				t.Errorf("Reply on the client = %q", got)
			}
			client.next(t)

			for _, method := range []string{repeatMethod, collectMethod} {
				header, trailer = nil, nil
				var s grpc.ClientStream
				if s, err = open(t.Context(), cc, method); err != nil {
					t.Fatal(err)
				}
				// The server may have answered already.
				_ = s.SendMsg(wrapperspb.String("x"))
				_ = s.CloseSend()
				_, err = drain(s)
				header, _ = s.Header()
				trailer = s.Trailer()
				check(method)
				<-replies
				client.next(t)
			}
		})
	}
}

// TestRepliesGoWithTheHeaders: a handler that sends its headers takes the replies
// along, and what fails later cannot take them back.
func TestRepliesGoWithTheHeaders(t *testing.T) {
	cc := pair{
		e:      echo{handle: func(context.Context) error { return status.Error(codes.Aborted, "no") }},
		server: []middleware.Middleware{before(func(_ context.Context, c *middleware.Call) { c.SetReply("x-reply", "yes") })},
	}.start(t)
	s, err := open(metadata.AppendToOutgoingContext(t.Context(), "send-header", "1"), cc, chatMethod)
	if err != nil {
		t.Fatal(err)
	}
	header, err := s.Header()
	if err != nil || !has(header, "x-reply", "yes") || !has(header, "x-own", "1") {
		t.Errorf("header %v, %v", header, err)
	}
	if _, err := drain(s); status.Code(err) != codes.Aborted || !has(s.Trailer(), "x-reply") {
		t.Errorf("%v, trailer %v", err, s.Trailer())
	}
}

// TestFailureIsTrailersOnly proves it with grpc's own retry, which only repeats a
// call that nothing but trailers came back for (gRFC A6).
func TestFailureIsTrailersOnly(t *testing.T) {
	server := newWatcher()
	p := pair{
		e: echo{handle: func(context.Context) error { return status.Error(codes.Unavailable, "no") }},
		server: []middleware.Middleware{server.middleware, before(func(_ context.Context, c *middleware.Call) {
			c.SetReply("x-trace-id", "1")
		})},
		clientOpts: []grpc.DialOption{grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,
			"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)},
	}
	cc := p.start(t)
	if _, err := say(t.Context(), cc, "x"); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	server.next(t)
	server.next(t)
	s, err := open(t.Context(), cc, repeatMethod)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SendMsg(wrapperspb.String("x")) // the server may have answered already
	if _, err := drain(s); status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	server.next(t)
	server.next(t)
}

func TestStreamEnds(t *testing.T) {
	type streamTest struct {
		name   string
		method string
		handle func(context.Context) error
		use    func(t *testing.T, s grpc.ClientStream, cancel context.CancelFunc, client watcher)
		want   codes.Code
	}
	send := func(t *testing.T, s grpc.ClientStream, m string) {
		t.Helper()
		if err := s.SendMsg(wrapperspb.String(m)); err != nil {
			t.Fatal(err)
		}
	}
	recv := func(t *testing.T, s grpc.ClientStream) string {
		t.Helper()
		m := new(wrapperspb.StringValue)
		if err := s.RecvMsg(m); err != nil {
			t.Fatal(err)
		}
		return m.GetValue()
	}
	for _, tc := range []streamTest{
		{name: "EOF", method: chatMethod, use: func(t *testing.T, s grpc.ClientStream, _ context.CancelFunc, client watcher) {
			for _, m := range []string{"a", "b"} {
				send(t, s, m)
				if got := recv(t, s); got != m {
					t.Errorf("got %q, want %q", got, m)
				}
			}
			client.none(t)
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if msgs, err := drain(s); len(msgs) != 0 || err != nil {
				t.Errorf("drain = %q, %v", msgs, err)
			}
		}},
		{name: "server stream", method: repeatMethod, use: func(t *testing.T, s grpc.ClientStream, _ context.CancelFunc, client watcher) {
			send(t, s, "x")
			for range 3 {
				recv(t, s)
			}
			client.none(t)
			if msgs, err := drain(s); len(msgs) != 0 || err != nil {
				t.Errorf("drain = %q, %v", msgs, err)
			}
		}},
		{name: "error", method: repeatMethod, want: codes.DataLoss,
			handle: func(context.Context) error { return status.Error(codes.DataLoss, "gone") },
			use: func(t *testing.T, s grpc.ClientStream, _ context.CancelFunc, _ watcher) {
				send(t, s, "x")
				if msgs, err := drain(s); len(msgs) != 0 || status.Code(err) != codes.DataLoss {
					t.Errorf("drain = %q, %v", msgs, err)
				}
			}},
		{name: "single response", method: collectMethod, use: func(t *testing.T, s grpc.ClientStream, _ context.CancelFunc, client watcher) {
			send(t, s, "a")
			send(t, s, "b")
			client.none(t)
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if got := recv(t, s); got != "ab" { // no further RecvMsg, as CloseAndRecv does none
				t.Errorf("got %q", got)
			}
		}},
		{name: "cancelled", method: chatMethod, want: codes.Canceled, use: func(t *testing.T, s grpc.ClientStream, cancel context.CancelFunc, client watcher) {
			send(t, s, "a")
			recv(t, s)
			client.none(t)
			cancel()
			if _, err := drain(s); status.Code(err) != codes.Canceled {
				t.Errorf("drain: %v", err)
			}
		}},
		{name: "abandoned", method: chatMethod, want: codes.Canceled, use: func(t *testing.T, s grpc.ClientStream, cancel context.CancelFunc, client watcher) {
			send(t, s, "a")
			client.none(t)
			cancel() // and never looked at again
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, client := newWatcher(), newWatcher()
			cc := pair{
				e: echo{handle: tc.handle}, server: []middleware.Middleware{server.middleware}, client: []middleware.Middleware{client.middleware},
			}.start(t)
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			s, err := open(ctx, cc, tc.method)
			if err != nil {
				t.Fatal(err)
			}
			tc.use(t, s, cancel, client)
			c := client.next(t)
			if middleware.Code(c.err) != tc.want || c.call.Kind != middleware.ClientStream || c.full != tc.method[1:] {
				t.Errorf("the client's chain saw %+v", c)
			}
			if s := server.next(t); middleware.Code(s.err) != tc.want || s.call.Kind != middleware.ServerStream {
				t.Errorf("the server's chain saw %+v", s)
			}
		})
	}
}

// TestStreamEndsWithConnection: the connection is closed under an open stream.
func TestStreamEndsWithConnection(t *testing.T) {
	client := newWatcher()
	cc := pair{client: []middleware.Middleware{client.middleware}}.start(t)
	s, err := open(t.Context(), cc, chatMethod)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(wrapperspb.String("a")); err != nil {
		t.Fatal(err)
	}
	if err := cc.Close(); err != nil {
		t.Fatal(err)
	}
	if c := client.next(t); middleware.Code(c.err) != codes.Canceled {
		t.Errorf("the client's chain saw %v", c.err)
	}
}

// TestStreamContext: the handler of a stream sees the chain's context.
func TestStreamContext(t *testing.T) {
	type key struct{}
	var seen [2]any
	calls := 0
	cc := pair{
		e: echo{handle: func(ctx context.Context) error { seen[calls] = ctx.Value(key{}); calls++; return nil }},
		server: []middleware.Middleware{func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, c *middleware.Call) error {
				return next(context.WithValue(ctx, key{}, c.Kind), c)
			}
		}},
	}.start(t)
	if _, err := say(t.Context(), cc, "x"); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), cc, chatMethod)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := drain(s); err != nil {
		t.Fatal(err)
	}
	if seen != [2]any{middleware.ServerUnary, middleware.ServerStream} {
		t.Errorf("handlers saw %v", seen)
	}
}

// TestAttempts: a client's middleware may run a unary call again, and open a
// stream again as long as it could not be opened.
func TestAttempts(t *testing.T) {
	server := newWatcher()
	cc := pair{server: []middleware.Middleware{server.middleware}, client: []middleware.Middleware{again(3)}}.start(t)
	if got, err := say(t.Context(), cc, "x"); err != nil || got != "x" {
		t.Fatalf("Say = %q, %v", got, err)
	}
	for range 3 {
		server.next(t)
	}

	s, err := open(t.Context(), cc, collectMethod)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		t.Errorf("the stream that was opened ends with %v", err)
	}
	server.next(t)
	server.none(t)
}

func TestOpenAgain(t *testing.T) {
	opens := 0
	fails := status.Error(codes.Unavailable, "no")
	interceptor := middleware.StreamClient("echo", again(2))
	_, err := interceptor(t.Context(), &grpc.StreamDesc{}, nil, chatMethod,
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			opens++
			return nil, fails
		})
	if opens != 2 || !errors.Is(err, fails) {
		t.Errorf("%d opens, %v", opens, err)
	}
}

// TestStreamNotOpened: a chain that neither opens the stream nor errs.
func TestStreamNotOpened(t *testing.T) {
	cc := pair{client: []middleware.Middleware{answer(nil)}}.start(t)
	if s, err := open(t.Context(), cc, chatMethod); s != nil || status.Code(err) != codes.Unknown {
		t.Errorf("open = %v, %v", s, err)
	}
}

// TestStreamGoexit: a middleware that ends its goroutine does not hang the
// caller.
func TestStreamGoexit(t *testing.T) {
	cc := pair{client: []middleware.Middleware{before(func(context.Context, *middleware.Call) { runtime.Goexit() })}}.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if _, err := open(ctx, cc, chatMethod); err == nil || ctx.Err() != nil {
		t.Errorf("open: %v", err)
	}
}

// TestConcurrentStreams runs many streams through one pair of chains.
func TestConcurrentStreams(t *testing.T) {
	const n = 50
	server, client := newWatcher(), newWatcher()
	cc := pair{server: []middleware.Middleware{server.middleware}, client: []middleware.Middleware{client.middleware}}.start(t)
	errs := make(chan error, n)
	for range n {
		go func() {
			s, err := open(t.Context(), cc, repeatMethod)
			if err == nil {
				err = s.SendMsg(wrapperspb.String("x"))
			}
			if err == nil {
				var msgs []string
				if msgs, err = drain(s); err == nil && !slices.Equal(msgs, []string{"x", "x", "x"}) {
					err = errors.New("wrong messages")
				}
			}
			errs <- err
		}()
	}
	for range n {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(wait):
			t.Fatal("streams hang")
		}
		client.next(t)
		server.next(t)
	}
}
