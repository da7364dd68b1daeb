package client_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/middleware"
	"plinth.internal/middleware/limit"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// TestCriticalityTravels: what a call says of itself, and what it inherits from the
// call that is served, over gRPC and HTTP.
func TestCriticalityTravels(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var got string
	saw := func(value string) {
		mu.Lock()
		defer mu.Unlock()
		got = value
	}
	w.start(t, "a", func(ctx context.Context, _ string) error {
		saw(strings.Join(metadata.ValueFromIncomingContext(ctx, middleware.HeaderCriticality), ","))
		return nil
	})
	w.web(t, "b", func(_ http.ResponseWriter, r *http.Request) {
		saw(strings.Join(r.Header.Values(middleware.HeaderCriticality), ","))
	})
	conn, web := w.conn(t), w.client.HTTP("echo")
	inherited := limit.New().Middleware()
	served := func(said string, do func(ctx context.Context)) {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(middleware.HeaderCriticality, said))
		if _, err := middleware.UnaryServer(inherited)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/a.B/C"}, func(ctx context.Context, _ any) (any, error) {
			do(ctx)
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		served string
		said   *client.Criticality
		want   string
	}{
		{"", nil, ""},
		{"", new(client.Critical), ""},
		{"", new(client.CriticalPlus), "critical_plus"},
		{"", new(client.Sheddable), "sheddable"},
		{"sheddable", nil, "sheddable"},
		{"sheddable_plus", new(client.CriticalPlus), "critical_plus"},
		{"sheddable", new(client.Critical), ""},
		{"unheard of", nil, ""},
	} {
		served(tt.served, func(ctx context.Context) {
			if tt.said != nil {
				ctx = client.WithCriticality(ctx, *tt.said)
			}
			saw("nothing")
			if _, err := call(ctx, conn, methodGet); err != nil || got != tt.want {
				t.Errorf("%+v: %q over gRPC, want %q (%v)", tt, got, tt.want, err)
			}
			saw("nothing")
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://echo/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := web.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got != tt.want {
				t.Errorf("%+v: %q over HTTP, want %q", tt, got, tt.want)
			}
		})
	}
}

// TestCallerIsNamed: where the name goes.
func TestCallerIsNamed(t *testing.T) {
	for _, tt := range []struct {
		agent, caller           string
		wantAgent, header, http string
	}{
		{"plinth", "orders", "plinth/orders grpc-go/", "", "orders"},
		{"mine", "orders", "mine grpc-go/", "orders", "orders"},
		{"", "orders", "grpc-go/", "orders", "orders"},
		{"plinth", "", "plinth grpc-go/", "", ""},
	} {
		w := newWorld(t, client.WithUserAgent(tt.agent), client.WithCaller(tt.caller))
		var mu sync.Mutex
		var agent, header, web string
		w.start(t, "a", func(ctx context.Context, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			agent = strings.Join(metadata.ValueFromIncomingContext(ctx, "user-agent"), ",")
			header = strings.Join(metadata.ValueFromIncomingContext(ctx, middleware.HeaderCaller), ",")
			return nil
		})
		w.web(t, "b", func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			web = strings.Join(r.Header.Values(middleware.HeaderCaller), ",")
		})
		if _, err := call(t.Context(), w.conn(t), methodGet); err != nil {
			t.Fatal(err)
		}
		if _, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if !strings.HasPrefix(strings.TrimSpace(agent), tt.wantAgent) || header != tt.header || web != tt.http {
			t.Errorf("%+v: user agent %q, header %q, over HTTP %q", tt, agent, header, web)
		}
		mu.Unlock()
	}
	reg := memory.Open(memory.NewStore())
	defer func() { _ = reg.Close() }()
	for _, name := range []string{"a b", "a\n", "ä", strings.Repeat("a", 101)} {
		if _, err := client.New(reg, client.WithCaller(name)); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

// TestUnprocessedIsMadeAgain: a call that an instance has turned away before doing
// anything for it is answered by another one, even if it must not happen twice.
func TestUnprocessedIsMadeAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		marked bool
		want   codes.Code
	}{"marked": {true, codes.OK}, "not marked": {false, codes.ResourceExhausted}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			trailers := []string{"grpc-retry-pushback-ms", "1"}
			if tt.marked {
				trailers = append(trailers, middleware.HeaderUnprocessed, "1")
			}
			full := w.start(t, "full", nil)
			w.start(t, "free", nil)
			conn := w.conn(t)
			connected(t, conn, 2)
			full.fail(reply(codes.ResourceExhausted, trailers...))
			retried := func() int { return len(recorded[client.CallRetried](w.events)) }
			eventually(t, "the full one is asked", func() bool {
				code := status.Code(put(t, conn))
				if code != codes.OK && code != tt.want {
					t.Fatalf("the call ended with %v", code)
				}
				return code != codes.OK || retried() > 0
			})
			if n := retried(); (n > 0) != tt.marked {
				t.Errorf("%d calls were made again", n)
			}
		})
	}
}

// put makes a call that must not happen twice.
func put(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	_, err := call(t.Context(), conn, methodPut, grpc.WaitForReady(true))
	return err
}

// TestRateIsNotRetried: a call over its rate is told to come later than its deadline.
func TestRateIsNotRetried(t *testing.T) {
	w := newWorld(t)
	full := limit.New()
	if err := full.Configure(limit.Config{Rates: []limit.Rate{{Name: "none", RPS: 1e-6, Burst: 1}}}); err != nil {
		t.Fatal(err)
	}
	e := listen(t, "full", "127.0.0.1:0", nil, grpc.UnaryInterceptor(middleware.UnaryServer(full.Middleware())))
	w.announce(t, registry.Instance{ID: "full", Endpoints: map[string]string{"grpc": e.addr}})
	w.start(t, "free", nil)
	conn := w.conn(t)
	eventually(t, "a call is turned away", func() bool {
		if _, err := call(t.Context(), conn, methodPut, grpc.WaitForReady(true)); err != nil && !strings.Contains(err.Error(), "rate_method") {
			t.Fatal(err)
		}
		return full.Stats().Rejected[limit.RateMethod] > 1
	})
	// The pushback of a rate is longer than the deadline: such a call is not made again.
	for _, r := range recorded[client.CallRetried](w.events) {
		t.Errorf("a call over its rate was made again: %+v", r)
	}
}
