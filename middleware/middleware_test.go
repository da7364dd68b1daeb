package middleware_test

import (
	"context"
	"slices"
	"testing"

	"plinth.internal/middleware"
)

func TestChainOrder(t *testing.T) {
	var got []string
	mark := func(name string) middleware.Middleware {
		return func(next middleware.Handler) middleware.Handler {
			got = append(got, "fold "+name)
			return func(ctx context.Context, call *middleware.Call) error {
				got = append(got, name+" in")
				defer func() { got = append(got, name+" out") }()
				return next(ctx, call)
			}
		}
	}
	h := middleware.Chain(mark("a"), nil, middleware.Chain(mark("b"), mark("c")), nil)(func(context.Context, *middleware.Call) error {
		got = append(got, "handler")
		return nil
	})
	for range 2 {
		if err := h(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	run := []string{"a in", "b in", "c in", "handler", "c out", "b out", "a out"}
	if want := append(append([]string{"fold c", "fold b", "fold a"}, run...), run...); !slices.Equal(got, want) {
		t.Errorf("order:\n%q, want\n%q", got, want)
	}
}

func TestEmptyChain(t *testing.T) {
	called := false
	h := func(context.Context, *middleware.Call) error { called = true; return nil }
	for _, chain := range []middleware.Middleware{middleware.Chain(), middleware.Chain(nil)} {
		called = false
		if err := chain(h)(t.Context(), nil); err != nil || !called {
			t.Errorf("err = %v, called = %v", err, called)
		}
	}
}

func TestKind(t *testing.T) {
	for k, want := range map[middleware.Kind]struct {
		name                 string
		server, stream, http bool
	}{
		0:                       {name: "unknown"},
		middleware.ServerUnary:  {name: "server_unary", server: true},
		middleware.ServerStream: {name: "server_stream", server: true, stream: true},
		middleware.ServerHTTP:   {name: "server_http", server: true, http: true},
		middleware.ClientUnary:  {name: "client_unary"},
		middleware.ClientStream: {name: "client_stream", stream: true},
		middleware.ClientHTTP:   {name: "client_http", http: true},
		99:                      {name: "unknown"},
	} {
		if k.String() != want.name || k.Server() != want.server || k.Stream() != want.stream || k.HTTP() != want.http {
			t.Errorf("%d: %v, server %v, stream %v, http %v", k, k, k.Server(), k.Stream(), k.HTTP())
		}
	}
}

func TestSplitMethod(t *testing.T) {
	for in, want := range map[string][2]string{
		"/orders.v1.Orders/Get": {"orders.v1.Orders", "Get"},
		"orders.v1.Orders/Get":  {"orders.v1.Orders", "Get"},
		"/a/b/c":                {"a/b", "c"},
		"/Get":                  {"", "Get"},
		"":                      {"", ""},
		"/":                     {"", ""},
	} {
		if s, m := middleware.SplitMethod(in); s != want[0] || m != want[1] {
			t.Errorf("SplitMethod(%q) = %q, %q", in, s, m)
		}
	}
}

func TestFullMethod(t *testing.T) {
	for _, tc := range []struct {
		call middleware.Call
		want string
	}{
		{middleware.Call{Kind: middleware.ServerUnary, Service: "s", Method: "M"}, "s/M"},
		{middleware.Call{Kind: middleware.ServerUnary, Method: "M"}, "M"},
		{middleware.Call{Kind: middleware.ServerHTTP, Service: "web", Method: "GET /x"}, "GET /x"},
		{middleware.Call{Kind: middleware.ClientHTTP, Service: "web", Method: "GET"}, "GET"},
	} {
		if got := tc.call.FullMethod(); got != tc.want {
			t.Errorf("FullMethod of %+v = %q, want %q", tc.call, got, tc.want)
		}
	}
}
