package middleware_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

func TestNetRPCClient(t *testing.T) {
	type sum struct{ A, B int }
	var seen []string
	invoke := func(_ context.Context, serviceMethod string, args, reply any) error {
		seen = append(seen, serviceMethod)
		got, ok := reply.(*sum)
		if !ok || *got != (sum{}) {
			t.Errorf("the attempt decodes into %#v, want a value of its own", reply)
		}
		got.A = args.(int)
		return nil
	}
	var call middleware.Call
	look := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, c *middleware.Call) error {
			c.SetHeader("X-Seen", "1")
			err := next(ctx, c)
			call = *c
			return err
		}
	}
	declared := func(m string) middleware.Idempotency {
		if m == "a.Arith.Add" {
			return middleware.NoSideEffects
		}
		return middleware.IdempotencyUnknown
	}
	add := middleware.NetRPCClient("math", invoke, declared, look)
	reply := sum{A: 7, B: 7}
	if err := add(t.Context(), "a.Arith.Add", 3, &reply); err != nil {
		t.Fatal(err)
	}
	if reply != (sum{A: 3}) {
		t.Errorf("the reply is %+v, want what was answered and nothing else", reply)
	}
	if call.Kind != middleware.ClientNetRPC || call.Target != "math" || call.Service != "a.Arith" || call.Method != "Add" ||
		call.FullMethod() != "a.Arith/Add" || call.Idempotency != middleware.NoSideEffects || call.Start.IsZero() ||
		!call.Replayable() || call.Peer() != "" || call.Header("x-SEEN") != "1" || call.Reply("x-seen") != "" {
		t.Errorf("the middleware saw %+v", call)
	}
	if call.Kind.String() != "client_netrpc" || call.Kind.Server() || call.Kind.Stream() || call.Kind.HTTP() {
		t.Errorf("%s is taken for another kind", call.Kind)
	}
	for _, tt := range []struct {
		ctx    context.Context
		method string
		want   middleware.Idempotency
	}{
		{t.Context(), "Arith.Sub", middleware.IdempotencyUnknown},
		{middleware.WithIdempotency(t.Context(), middleware.Idempotent), "Arith.Sub", middleware.Idempotent},
		{middleware.WithIdempotency(t.Context(), middleware.IdempotencyUnknown), "a.Arith.Add", middleware.IdempotencyUnknown},
	} {
		if err := add(tt.ctx, tt.method, 3, &reply); err != nil || call.Idempotency != tt.want {
			t.Errorf("%s is %v (%v), want %v", tt.method, call.Idempotency, err, tt.want)
		}
	}
	if seen[1] != "Arith.Sub" {
		t.Errorf("called were %q", seen)
	}
}

func TestNetRPCClientErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		reply  any
		chain  []middleware.Middleware
		result error
		want   string
		code   codes.Code
	}{
		{"outcome", new(3), nil, broken, "broken", codes.Unknown},
		{"value", 3, nil, nil, "must be a pointer", codes.InvalidArgument},
		{"nil pointer", (*int)(nil), nil, nil, "must be a pointer", codes.InvalidArgument},
		{"not sent", new(3), []middleware.Middleware{func(middleware.Handler) middleware.Handler {
			return func(context.Context, *middleware.Call) error { return nil }
		}}, nil, "without sending it", codes.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			call := middleware.NetRPCClient("math", func(_ context.Context, _ string, _, reply any) error {
				*reply.(*int) = 8
				return tt.result
			}, nil, tt.chain...)
			err := call(t.Context(), "Arith.Add", 1, tt.reply)
			if err == nil || !strings.Contains(err.Error(), tt.want) || middleware.Code(err) != tt.code {
				t.Errorf("error is %v, want %q with %v", err, tt.want, tt.code)
			}
			if p, ok := tt.reply.(*int); ok && p != nil && *p != 3 {
				t.Errorf("the reply of a call that failed is %d", *p)
			}
		})
	}
	call := middleware.NetRPCClient("math", func(_ context.Context, _ string, _, reply any) error {
		if reply != nil {
			t.Errorf("a reply that nobody wants is %#v", reply)
		}
		return nil
	}, nil)
	if err := call(t.Context(), "Arith.Add", 1, nil); err != nil {
		t.Error(err)
	}
}

// TestNetRPCClientRepeated: what an attempt that failed has decoded is not seen.
func TestNetRPCClientRepeated(t *testing.T) {
	n := 0
	invoke := func(_ context.Context, _ string, _, reply any) error {
		n++
		got := reply.(*map[int]bool)
		if *got == nil {
			*got = map[int]bool{}
		}
		(*got)[n] = true
		if n < 3 {
			return errors.New("cut in the middle")
		}
		return nil
	}
	retry := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			for next(ctx, call) != nil {
			}
			return nil
		}
	}
	var reply map[int]bool
	if err := middleware.NetRPCClient("math", invoke, nil, retry)(t.Context(), "Arith.Add", 1, &reply); err != nil || len(reply) != 1 || !reply[3] {
		t.Errorf("the reply is %v, %v", reply, err)
	}
}

type nameKey struct{} // of a context: which attempt it is

func TestForkNetRPC(t *testing.T) {
	for _, winner := range []string{"own", "fork"} {
		t.Run(winner, func(t *testing.T) {
			answer := answering(winner)
			var attempts int
			look := func(next middleware.Handler) middleware.Handler {
				return func(ctx context.Context, call *middleware.Call) error {
					err := next(ctx, call)
					attempts = call.Attempts
					if call.Instance != winner {
						t.Errorf("the instance is %q", call.Instance)
					}
					return err
				}
			}
			name := func(next middleware.Handler) middleware.Handler {
				return func(ctx context.Context, call *middleware.Call) error {
					return next(context.WithValue(ctx, nameKey{}, call.Header(attemptHeader)), call)
				}
			}
			call := middleware.NetRPCClient("math", func(ctx context.Context, _ string, _, reply any) error {
				who, _ := ctx.Value(nameKey{}).(string)
				*reply.(*string) = who
				return answer(ctx, who)
			}, nil, look, both, name)
			var reply string
			if err := call(t.Context(), "Arith.Add", 1, &reply); err != nil || reply != winner || attempts != 2 {
				t.Errorf("answered %q by %d attempts, %v", reply, attempts, err)
			}
		})
	}
}
