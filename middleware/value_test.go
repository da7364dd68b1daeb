package middleware_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"plinth.internal/middleware"
)

type valueKey int

// TestWithValue holds that values are found whether the call has room for them or
// not, the last one first, also in contexts that outlive the call.
func TestWithValue(t *testing.T) {
	var kept context.Context
	add := func(n int) middleware.Middleware {
		return func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				return next(call.WithValue(ctx, valueKey(n%4), new(n)), call)
			}
		}
	}
	serve := middleware.UnaryServer(add(0), add(1), add(2), add(3), add(4))
	handle := func(ctx context.Context, _ any) (any, error) {
		kept = ctx //nolint:fatcontext // to look at it after the call
		return nil, nil
	}
	outer := context.WithValue(t.Context(), valueKey(-1), "outer")
	for range 2 {
		before := kept
		if _, err := serve(outer, nil, &grpc.UnaryServerInfo{FullMethod: "/o.O/Get"}, handle); err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{before, kept, context.WithoutCancel(kept)} {
			if ctx == nil {
				continue
			}
			for key, want := range map[valueKey]int{0: 4, 1: 1, 2: 2, 3: 3} {
				if got, ok := ctx.Value(key).(*int); !ok || *got != want {
					t.Errorf("key %d has %v, want %d", key, ctx.Value(key), want)
				}
			}
			if ctx.Value(valueKey(-1)) != "outer" || ctx.Value(valueKey(9)) != nil {
				t.Error("what is not the call's is not what the context outside has")
			}
		}
	}
	var elsewhere middleware.Call
	if got := elsewhere.WithValue(outer, valueKey(0), "x").Value(valueKey(0)); got != "x" {
		t.Errorf("a call without room has %v, want x", got)
	}
}

// TestWithValueAllocations holds that the room of a call is used.
func TestWithValueAllocations(t *testing.T) {
	cost := func(values int) float64 {
		value := new(1)
		serve := middleware.UnaryServer(func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				for i := range values {
					ctx = call.WithValue(ctx, valueKey(i), value) //nolint:fatcontext // that is what is measured
				}
				return next(ctx, call)
			}
		})
		info := &grpc.UnaryServerInfo{FullMethod: "/o.O/Get"}
		handle := func(context.Context, any) (any, error) { return nil, nil }
		return testing.AllocsPerRun(100, func() { _, _ = serve(t.Context(), nil, info, handle) })
	}
	if without, with := cost(0), cost(2); with != without {
		t.Errorf("two values take %v allocations, want none", with-without)
	}
	if without, with := cost(0), cost(3); with != without+1 {
		t.Errorf("three values take %v allocations, want 1", with-without)
	}
}
