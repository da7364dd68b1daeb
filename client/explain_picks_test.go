package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
)

// TestExplainPicks: the share is that of the picks, whatever becomes of the calls.
func TestExplainPicks(t *testing.T) {
	hang := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, tt := range map[string]struct {
		handle func(context.Context, string) error
		call   func(*testing.T, *grpc.ClientConn)
		want   string
	}{
		"refused": {reply(codes.ResourceExhausted), func(t *testing.T, conn *grpc.ClientConn) {
			if _, err := call(t.Context(), conn, methodPut); status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("the call ended with %v", err)
			}
		}, " % of the calls are refused here as too many, it has "},
		"cancelled": {hang, func(t *testing.T, conn *grpc.ClientConn) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			_, _ = call(ctx, conn, methodPut)
		}, " of its calls were given up by their callers or handed back, it has "},
		"streams": {hang, func(t *testing.T, conn *grpc.ClientConn) {
			s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, methodWatch)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SendMsg(wrapperspb.String("x")); err != nil {
				t.Fatal(err)
			}
		}, "called: nothing is against it, it has "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
				return client.Settings{Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyOff}}
			}))
			w.start(t, "a", nil)
			w.start(t, "b", nil)
			conn := w.conn(t)
			connected(t, conn, 2)
			before := w.explained(t)
			w.failAll(tt.handle)
			for range 60 {
				tt.call(t, conn)
			}
			got := w.whys(t, map[string]string{"a": tt.want, "b": tt.want})
			for i, e := range got.Instances {
				if picks := e.Picks - before.Instances[i].Picks; picks < 25 || picks > 30 {
					t.Errorf("%s was picked for %d calls, want half of 60", e.ID, picks)
				}
				if e.Share < 0.4 || e.Share > 0.6 {
					t.Errorf("the share of %s is %v", e.ID, e.Share)
				}
			}
		})
	}
}

// TestExplainHanging: calls that hang are seen under a policy that takes them in turn.
func TestExplainHanging(t *testing.T) {
	w := newWorld(t)
	w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	w.failAll(func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() { _, _ = call(ctx, conn, methodPut) })
	}
	w.whys(t, map[string]string{"a": "called: a call has waited for it for "})
	cancel()
	calls.Wait()
	w.whys(t, map[string]string{"a": "called: 20 of its calls were given up by their callers or handed back"})
}
