package client_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

func TestBudgetLimitsAmplification(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyOff}, Retry: retry.Policy{Backoff: time.Microsecond}}
	}))
	sick := reply(codes.Unavailable)
	a, b := w.start(t, "a", nil), w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	before := a.calls.Load() + b.calls.Load()
	a.fail(sick)
	b.fail(sick)
	start := time.Now()
	const calls = 1000
	for range calls {
		if _, err := call(t.Context(), conn, methodGet); status.Code(err) != codes.Unavailable {
			t.Fatalf("error is %v", err)
		}
	}
	retries := float64(a.calls.Load() + b.calls.Load() - before - calls)
	allowed := retry.BudgetRatio*calls + retry.BudgetMax + retry.BudgetPerSecond*time.Since(start).Seconds()
	if retries > allowed+1 || retries < 100 {
		t.Errorf("%v retries of %d calls, the budget allows %.0f", retries, calls, allowed)
	}
	gaveUp := map[retry.Reason]int{}
	for _, e := range recorded[client.CallGaveUp](w.events) {
		gaveUp[e.Reason]++
	}
	if gaveUp[retry.NoBudget] < calls/2 {
		t.Errorf("calls were given up for %v", gaveUp)
	}
}

func TestBreakerRejects(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(_, method string) client.Settings {
		return client.Settings{OwnBreaker: method == "Put"}
	}))
	e := w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	e.fail(reply(codes.Unavailable))
	var rejection *client.BreakerError
	for range 1000 {
		_, err := call(t.Context(), conn, methodPut)
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("error is %v", err)
		}
		if be, ok := errors.AsType[*client.BreakerError](err); ok {
			rejection = be
		}
	}
	if rejection == nil {
		t.Fatal("nothing was held back")
	}
	if !strings.HasPrefix(rejection.Error(), "breaker: echo/Put held back") || rejection.Rejection.State.Failed < 11 || rejection.Rejection.State.Reject <= 0 {
		t.Errorf("the error is %+v: %v", *rejection, rejection)
	}
	if got := e.calls.Load(); got > 700 {
		t.Errorf("%d of 1000 calls went through to a service that refuses all", got)
	}
	if got := len(recorded[client.CallRejected](w.events)); got < 300 {
		t.Errorf("%d rejections were told", got)
	}
	// The other methods do not share the breaker of this one.
	e.fail(nil)
	for range 50 {
		if _, err := call(t.Context(), conn, methodGet); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeadline(t *testing.T) {
	w := newWorld(t)
	remaining := make(chan time.Duration, 1)
	w.start(t, "a", func(ctx context.Context, _ string) error {
		if d, ok := ctx.Deadline(); ok {
			remaining <- time.Until(d)
		} else {
			remaining <- 0
		}
		return nil
	})
	conn := w.conn(t)
	within := func(got, low, high time.Duration) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("the server sees a deadline in %s, want %s to %s", got, low, high)
		}
	}
	if _, err := call(t.Context(), conn, methodGet); err != nil {
		t.Fatal(err)
	}
	within(<-remaining, client.DefaultTimeout-time.Second, client.DefaultTimeout)

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := call(ctx, conn, methodGet); err != nil {
		t.Fatal(err)
	}
	within(<-remaining, 100*time.Millisecond, time.Second)

	if id, err := watch(t.Context(), conn); err != nil || id != "a" {
		t.Fatalf("stream answered %q, %v", id, err)
	}
	within(<-remaining, 0, 0)
}

// watch opens a stream and reads it to its end.
func watch(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, methodWatch)
	if err != nil {
		return "", err
	}
	if err := s.SendMsg(wrapperspb.String("x")); err != nil {
		return "", err
	}
	if err := s.CloseSend(); err != nil {
		return "", err
	}
	var out wrapperspb.StringValue
	for {
		if err := s.RecvMsg(&out); errors.Is(err, io.EOF) {
			return out.GetValue(), nil
		} else if err != nil {
			return "", err
		}
	}
}

func TestStreamIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(t, "a", nil), w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	a.fail(reply(codes.Unavailable))
	b.fail(reply(codes.Unavailable))
	before := a.calls.Load() + b.calls.Load()
	_, err := watch(t.Context(), conn)
	if got := a.calls.Load() + b.calls.Load() - before; status.Code(err) != codes.Unavailable || got != 1 {
		t.Errorf("error is %v after %d attempts", err, got)
	}
}

func TestRetryTalksToServers(t *testing.T) {
	tests := []struct {
		name     string
		method   string
		code     codes.Code
		trailers []string
		attempts int64
	}{
		{"overload without pushback", methodGet, codes.ResourceExhausted, nil, 1},
		{"overload with pushback", methodGet, codes.ResourceExhausted, []string{"grpc-retry-pushback-ms", "1"}, 3},
		{"pushback that refuses", methodGet, codes.Unavailable, []string{"grpc-retry-pushback-ms", "-1"}, 1},
		{"pushback of nonsense", methodGet, codes.Unavailable, []string{"grpc-retry-pushback-ms", "soon"}, 1},
		{"retried below", methodGet, codes.Unavailable, []string{"plinth-no-retry", "1"}, 1},
		{"unavailable", methodGet, codes.Unavailable, nil, 3},
		{"unknown", methodGet, codes.Unknown, nil, 3},
		{"caller's fault", methodGet, codes.InvalidArgument, nil, 1},
		{"not idempotent", methodPut, codes.Internal, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen middleware.Call
			w := newWorld(t, client.WithMiddleware(func(next middleware.Handler) middleware.Handler {
				return func(ctx context.Context, call *middleware.Call) error {
					err := next(ctx, call)
					seen = *call
					return err
				}
			}))
			a, b := w.start(t, "a", nil), w.start(t, "b", nil)
			conn := w.conn(t)
			connected(t, conn, 2)
			before := a.calls.Load() + b.calls.Load()
			var previous atomic.Int64
			fail := reply(tt.code, tt.trailers...)
			count := func(ctx context.Context, m string) error {
				for _, v := range metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts") {
					previous.Store(int64(v[0] - '0'))
				}
				return fail(ctx, m)
			}
			a.fail(count)
			b.fail(count)
			_, err := call(t.Context(), conn, tt.method)
			if status.Code(err) != tt.code {
				t.Fatalf("error is %v, want %s", err, tt.code)
			}
			if got := a.calls.Load() + b.calls.Load() - before; got != tt.attempts {
				t.Errorf("%d attempts, want %d", got, tt.attempts)
			}
			if previous.Load() != tt.attempts-1 || seen.Attempts != int(tt.attempts) {
				t.Errorf("the last server was told of %d attempts before, the middleware of %d attempts", previous.Load(), seen.Attempts)
			}
			if addr := map[string]string{"a": a.addr, "b": b.addr}[seen.Instance]; addr == "" || seen.Peer() != addr {
				t.Errorf("the middleware was told of instance %q at %s", seen.Instance, seen.Peer())
			}
			if len(tt.trailers) > 0 && seen.Reply(tt.trailers[0]) != tt.trailers[1] {
				t.Errorf("the middleware finds %q in the trailers %v", seen.Reply(tt.trailers[0]), tt.trailers)
			}
		})
	}
}

func TestRetryGoesToAnotherInstance(t *testing.T) {
	w := newWorld(t)
	a := w.start(t, "a", nil)
	w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	a.fail(reply(codes.Internal))
	for range 30 { // half of them meet it: within the budget
		if id, err := call(t.Context(), conn, methodGet); err != nil || id != "b" {
			t.Fatalf("answered %q, %v", id, err)
		}
	}
	if got := recorded[client.CallRetried](w.events); len(got) < 5 {
		t.Errorf("only %d of 30 calls have met the sick instance", len(got))
	}
}

func TestAttemptTimeout(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(service, method string) client.Settings {
		if service != "echo" || method != "Get" && method != "" {
			t.Errorf("settings were asked for %q, %q", service, method)
		}
		return client.Settings{Balancer: balancer.NameRoundRobin, AttemptTimeout: 100 * time.Millisecond}
	}))
	a := w.start(t, "a", nil)
	w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	a.fail(func(ctx context.Context, _ string) error { // it hangs
		<-ctx.Done()
		return ctx.Err()
	})
	met := a.calls.Load()
	eventually(t, "a call has met the hanging instance", func() bool {
		if id, err := call(t.Context(), conn, methodGet); err != nil || id != "b" {
			t.Fatalf("answered %q, %v", id, err)
		}
		return a.calls.Load() > met
	})
	if got := recorded[client.CallRetried](w.events); len(got) == 0 || got[0].Reason != retry.ReasonTimeout {
		t.Errorf("retries were told as %+v", got)
	}
}
