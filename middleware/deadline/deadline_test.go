package deadline_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

// seen is what the innermost handler found.
type seen struct {
	called    bool
	remaining time.Duration // -1 = no deadline
	header    string
}

func (s *seen) handler(ctx context.Context, call *middleware.Call) error {
	s.called = true
	s.remaining = -1
	if d, ok := ctx.Deadline(); ok {
		s.remaining = time.Until(d)
	}
	if call.Kind == middleware.ClientHTTP {
		s.header = call.Header(deadline.Header)
	}
	return nil
}

// serve runs a middleware as a unary gRPC server does.
func serve(ctx context.Context, m middleware.Middleware, handler func(context.Context) error) error {
	_, err := middleware.UnaryServer(m)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/shop.v1.Orders/Get"},
		func(ctx context.Context, _ any) (any, error) { return nil, handler(ctx) })
	return err
}

func timeout(d time.Duration) func(*middleware.Call) time.Duration {
	return func(*middleware.Call) time.Duration { return d }
}

func TestClient(t *testing.T) {
	const none = -1
	tests := []struct {
		name    string
		caller  time.Duration // deadline of the call's context
		inbound time.Duration // deadline of the call that is being served
		timeout time.Duration
		want    time.Duration
		code    codes.Code
	}{
		{"no deadline anywhere", 0, 0, 0, none, codes.OK},
		{"negative timeout is none", 0, 0, -1, none, codes.OK},
		{"timeout", 0, 0, 3 * time.Second, 3 * time.Second, codes.OK},
		{"caller is earlier", time.Second, 0, 3 * time.Second, time.Second, codes.OK},
		{"caller is later", time.Minute, 0, 3 * time.Second, 3 * time.Second, codes.OK},
		{"a hop is taken off", 0, 100 * time.Millisecond, 3 * time.Second, 95 * time.Millisecond, codes.OK},
		{"a hop is taken off without timeout", 0, 100 * time.Millisecond, 0, 95 * time.Millisecond, codes.OK},
		{"timeout within the hop", 0, 100 * time.Millisecond, 97 * time.Millisecond, 95 * time.Millisecond, codes.OK},
		{"own deadline within a served call", 20 * time.Millisecond, 100 * time.Millisecond, time.Second, 20 * time.Millisecond, codes.OK},
		{"a hop at its largest", 0, 20 * time.Millisecond, time.Second, 15 * time.Millisecond, codes.OK},
		{"a quarter is taken off", 0, 16 * time.Millisecond, time.Second, 12 * time.Millisecond, codes.OK},
		{"less than a hop left", 0, 4 * time.Millisecond, time.Second, 3 * time.Millisecond, codes.OK},
		{"almost passed", time.Nanosecond, 0, time.Second, 0, codes.OK}, // one nanosecond is still time
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got seen
				call := func(ctx context.Context) error {
					if tt.caller > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, tt.caller)
						defer cancel()
					}
					c := &middleware.Call{Kind: middleware.ClientUnary, Target: "billing", Method: "Charge"}
					return deadline.Client(timeout(tt.timeout))(got.handler)(ctx, c)
				}
				var err error
				if tt.inbound > 0 {
					ctx, cancel := context.WithTimeout(t.Context(), tt.inbound)
					defer cancel()
					err = serve(ctx, deadline.Server(), call)
				} else {
					err = call(t.Context())
				}
				if code := middleware.Code(err); code != tt.code {
					t.Fatalf("error is %v, want %s", err, tt.code)
				}
				if got.called != (tt.code == codes.OK) {
					t.Fatalf("next was called: %v", got.called)
				}
				if tt.want != 0 && got.remaining != tt.want {
					t.Errorf("%s remain, want %s", got.remaining, tt.want)
				}
			})
		})
	}
}

// TestClientTooLate: nothing is called for a caller that has given up.
func TestClientTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		var got seen
		err := serve(ctx, deadline.Server(), func(ctx context.Context) error {
			<-time.After(30 * time.Millisecond)
			return deadline.Client(timeout(time.Second))(got.handler)(ctx, &middleware.Call{Kind: middleware.ClientUnary, Target: "billing", Method: "Charge"})
		})
		if want := "call billing/Charge: the caller's deadline passed 20ms ago"; middleware.Status(err).Message() != want || middleware.Code(err) != codes.DeadlineExceeded || got.called {
			t.Errorf("error is %v, want %q; next was called: %v", err, want, got.called)
		}
	})
}

func TestClientCancelsWhenDone(t *testing.T) {
	var ended func() error
	err := deadline.Client(timeout(time.Hour))(func(ctx context.Context, _ *middleware.Call) error {
		ended = ctx.Err
		return nil
	})(t.Context(), &middleware.Call{Kind: middleware.ClientUnary})
	if err != nil || ended() == nil {
		t.Errorf("the timer still runs after the call (error %v)", err)
	}
}

func TestHTTPHeader(t *testing.T) {
	var sent string
	rt := middleware.RoundTripper("billing", roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = r.Header.Get(deadline.Header)
		return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
	}), deadline.Client(timeout(3*time.Second)))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://billing/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	d, err := deadline.Parse(sent)
	if err != nil || d > 3*time.Second || d < 2*time.Second {
		t.Errorf("header is %q, want a little less than 3 s (%v)", sent, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestServerUnary(t *testing.T) {
	tests := []struct {
		name   string
		caller time.Duration
		opts   []deadline.Option
		want   time.Duration
		code   codes.Code
	}{
		{"none", 0, nil, -1, codes.OK},
		{"caller's", time.Second, nil, time.Second, codes.OK},
		{"default", 0, []deadline.Option{deadline.WithDefault(2 * time.Second)}, 2 * time.Second, codes.OK},
		{"caller's before default", time.Second, []deadline.Option{deadline.WithDefault(2 * time.Second)}, time.Second, codes.OK},
		{"caller's beyond default", time.Minute, []deadline.Option{deadline.WithDefault(2 * time.Second)}, time.Minute, codes.OK},
		{"just enough", deadline.MinRemaining, nil, deadline.MinRemaining, codes.OK},
		{"not enough", deadline.MinRemaining - 1, nil, 0, codes.DeadlineExceeded},
		{"over", 1, nil, 0, codes.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.caller)
					defer cancel()
				}
				if tt.caller == 1 {
					<-ctx.Done()
				}
				var got seen
				err := serve(ctx, deadline.Server(tt.opts...), func(ctx context.Context) error {
					return got.handler(ctx, &middleware.Call{})
				})
				if code := middleware.Code(err); code != tt.code || got.called != (tt.code == codes.OK) {
					t.Fatalf("error is %v, handler called: %v", err, got.called)
				}
				if tt.code != codes.OK && !deadline.Domain.Is(err, deadline.Expired) {
					t.Errorf("the details of %v do not say so", err)
				}
				if got.called && got.remaining != tt.want {
					t.Errorf("%s remain, want %s", got.remaining, tt.want)
				}
			})
		})
	}
}

func TestServerDropsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := serve(ctx, deadline.Server(), func(context.Context) error {
		t.Error("the handler was called for a caller that has gone")
		return nil
	})
	if middleware.Code(err) != codes.Canceled {
		t.Errorf("error is %v, want CANCELED", err)
	}
}

// TestOnDrop: those that are turned away because nobody waits are told of.
func TestOnDrop(t *testing.T) {
	for name, tt := range map[string]struct {
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want codes.Code
	}{
		"none": {context.WithCancel, codes.OK},
		"canceled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, codes.Canceled},
		"passed": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, -1)
		}, codes.DeadlineExceeded},
		"too little": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, deadline.MinRemaining/2)
		}, codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tt.ctx(t.Context())
				defer cancel()
				got := codes.OK
				err := serve(ctx, deadline.Server(deadline.OnDrop(func(_ *middleware.Call, c codes.Code) { got = c })), func(context.Context) error { return nil })
				if got != tt.want || middleware.Code(err) != tt.want {
					t.Errorf("told of %v, the call ended with %v, want %v", got, err, tt.want)
				}
			})
		})
	}
}

func TestServerStreamHasNoDefault(t *testing.T) {
	var got seen
	m := middleware.StreamServer(deadline.Server(deadline.WithDefault(time.Second)))
	err := m(nil, stream{ctx: t.Context()}, &grpc.StreamServerInfo{FullMethod: "/shop.v1.Orders/Watch"},
		func(_ any, s grpc.ServerStream) error { return got.handler(s.Context(), &middleware.Call{}) })
	if err != nil || got.remaining != -1 {
		t.Errorf("a stream got a deadline of %s (error %v)", got.remaining, err)
	}
}

type stream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

func TestServerHTTP(t *testing.T) {
	tests := []struct {
		header string
		status int
		max    time.Duration // 0 = no deadline
	}{
		{"", http.StatusOK, 0},
		{"500m", http.StatusOK, 500 * time.Millisecond},
		{"999u", http.StatusGatewayTimeout, 0},
		{"0n", http.StatusGatewayTimeout, 0},
		{"soon", http.StatusBadRequest, 0},
	}
	for _, tt := range tests {
		t.Run(tt.header, func(t *testing.T) {
			var got seen
			h := middleware.HTTPServer("billing", "GET /x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = got.handler(r.Context(), &middleware.Call{})
			}), deadline.Server())
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil)
			if tt.header != "" {
				r.Header.Set(deadline.Header, tt.header)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status || got.called != (tt.status == http.StatusOK) {
				t.Fatalf("status is %d, want %d; handler called: %v", w.Code, tt.status, got.called)
			}
			switch {
			case tt.max == 0 && got.called && got.remaining != -1:
				t.Errorf("a deadline of %s came from nowhere", got.remaining)
			case tt.max > 0 && (got.remaining <= 0 || got.remaining > tt.max):
				t.Errorf("%s remain, want at most %s", got.remaining, tt.max)
			}
		})
	}
}

// TestChain is a caller with 100 ms, a server that works for 80 ms and then
// calls on: the third in the chain may use at most 15 ms.
func TestChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var third seen
		err := serve(ctx, deadline.Server(), func(ctx context.Context) error {
			work := time.NewTimer(80 * time.Millisecond)
			select {
			case <-work.C:
			case <-ctx.Done():
				return errors.New("gave up early")
			}
			return deadline.Client(timeout(3*time.Second))(third.handler)(ctx, &middleware.Call{Kind: middleware.ClientUnary})
		})
		if err != nil || third.remaining != 15*time.Millisecond {
			t.Errorf("the third has %s (error %v), want 15ms", third.remaining, err)
		}
	})
}

// TestCause: a context that has ended tells whose deadline it was.
func TestCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tests := map[string]struct {
			inbound, own, timeout time.Duration // 0 = none
			want                  error
		}{
			"timeout":           {0, 0, time.Second, deadline.ErrTimeout},
			"served":            {time.Second, 0, 2 * time.Second, deadline.ErrServed},
			"served, but later": {3 * time.Second, 0, 2 * time.Second, deadline.ErrTimeout},
			"of the caller":     {0, time.Second, 2 * time.Second, context.DeadlineExceeded},
		}
		for name, tt := range tests {
			var got error
			out := deadline.Client(func(*middleware.Call) time.Duration { return tt.timeout })(func(ctx context.Context, _ *middleware.Call) error {
				<-ctx.Done()
				got = context.Cause(ctx)
				return ctx.Err()
			})
			run := func(ctx context.Context) error {
				if tt.own > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.own)
					defer cancel()
				}
				return out(ctx, &middleware.Call{})
			}
			ctx := t.Context()
			var err error
			if tt.inbound > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.inbound)
				defer cancel()
				err = serve(ctx, deadline.Server(), run)
			} else {
				err = run(ctx)
			}
			if middleware.Code(err) != codes.DeadlineExceeded || !errors.Is(got, tt.want) || !errors.Is(got, context.DeadlineExceeded) {
				t.Errorf("%s: error %v, cause %v, want %v", name, err, got, tt.want)
			}
			if timeout, ok := got.(interface{ Timeout() bool }); !ok || !timeout.Timeout() {
				t.Errorf("%s: the cause %v is no timeout for net.Error", name, got)
			}
		}
	})
}
