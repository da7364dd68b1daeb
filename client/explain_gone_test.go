package client_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client"
)

// TestExplainGone: an instance that has left the list is shown for as long as calls
// run on it, so that the rows add up.
func TestExplainGone(t *testing.T) {
	w := newWorld(t)
	w.start(t, "a", nil)
	w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	w.failAll(func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 10 {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, methodWatch)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMsg(wrapperspb.String("x")); err != nil {
			t.Fatal(err)
		}
	}
	withdraw := func(id string) {
		t.Helper()
		if err := w.registry.Withdraw(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	inFlight := func(e client.ServiceExplained) (n int64) {
		for _, i := range e.Instances {
			n += i.InFlight
		}
		return n
	}
	withdraw("a")
	got := w.whys(t, map[string]string{"a": ", and its calls in flight are 5", "b": "called: nothing is against it"})
	if got.Instances[0].State != client.StateGone || !strings.HasPrefix(got.Instances[0].Why, "not called: it left the list ") {
		t.Errorf("the one that left is %+v", got.Instances[0])
	}
	if sum := inFlight(got); sum != 10 || got.Protocols[0].InFlight != 10 {
		t.Errorf("the rows add up to %d in flight, the fleet has %d", sum, got.Protocols[0].InFlight)
	}
	if !strings.HasPrefix(got.Why, "1 of 1 instances take calls over grpc (1 gone while calls run on them)") {
		t.Errorf("of the service it says %q", got.Why)
	}
	withdraw("b")
	got = w.whys(t, map[string]string{"a": "calls in flight are 5", "b": "calls in flight are 5"})
	if !strings.HasPrefix(got.Why, "nobody can be called over grpc: no instance of ") || !strings.Contains(got.Why, "; calls over grpc still run on 2 that left the list") {
		t.Errorf("of the service it says %q", got.Why)
	}
	cancel()
	w.whys(t, map[string]string{})
}
