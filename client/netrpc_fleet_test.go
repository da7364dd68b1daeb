package client_test

import (
	"context"
	"errors"
	"net/rpc"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
	"plinth.internal/internal/loopback"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// rpcLoad makes calls from several goroutines until it is ended, and then gives
// the number of calls and the errors.
func rpcLoad(ctx context.Context, n *client.NetRPC) (done *atomic.Int64, end func() []error) {
	done = new(atomic.Int64)
	stop := make(chan struct{})
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := said(ctx, n, "x"); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				done.Add(1)
			}
		})
	}
	return done, func() []error {
		close(stop)
		wg.Wait()
		return errs
	}
}

// TestNetRPCRestart: of three instances one is killed and started again under
// load. No idempotent call is lost, and the load is shared as before.
func TestNetRPCRestart(t *testing.T) {
	for _, tt := range []struct {
		policy string
		calls  int64   // to judge the balance by: adaptive compares latencies first
		within float64 // of the mean
	}{
		{balancer.NameRoundRobin, 1000, 0.1},
		{balancer.NameAdaptive, 1500, 0.2},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
				return client.Settings{Balancer: tt.policy, Ejection: outlier.Config{Base: 300 * time.Millisecond}}
			}))
			var addrs loopback.Addresses
			var fleet []*rpcServer
			for _, id := range []string{"a", "b", "c"} {
				addr, err := addrs.Next()
				if err != nil {
					t.Fatal(err)
				}
				s := newRPCServer(t, id, addr)
				// With a cost smaller than what a busy machine adds to some calls
				// the servers would not be alike.
				s.fail(func(string) error { pause(context.Background(), 5*time.Millisecond); return nil })
				fleet = append(fleet, s)
				w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"netrpc": addr}})
			}
			n := w.netrpc(t, client.WithIdempotentMethods(say))
			rpcConnected(t, n, 3)
			balanced := func(when string) {
				t.Helper()
				var before [3]int64
				for i, s := range fleet {
					before[i] = s.calls.Load()
				}
				done, end := rpcLoad(t.Context(), n)
				eventually(t, "the calls are made", func() bool { return done.Load() >= tt.calls })
				if errs := end(); len(errs) > 0 {
					t.Fatalf("%s: %d of %d calls failed: %v", when, len(errs), done.Load(), errs[0])
				}
				mean := float64(done.Load()) / 3
				for i, s := range fleet {
					if got := float64(s.calls.Load() - before[i]); got < mean*(1-tt.within) || got > mean*(1+tt.within) {
						t.Errorf("%s: %s has served %.0f calls, the mean is %.0f", when, s.id, got, mean)
					}
				}
			}
			balanced("before")

			victim := fleet[1]
			done, end := rpcLoad(t.Context(), n)
			next := func(calls int64) {
				t.Helper()
				from := done.Load()
				eventually(t, "the load goes on", func() bool { return done.Load() >= from+calls })
			}
			next(300)
			victim.kill()
			next(600)
			victim.serve(t)
			back := victim.calls.Load()
			within(t, 30*time.Second, "the instance is called again", func() bool { return victim.calls.Load() >= back+100 })
			if errs := end(); len(errs) > 0 {
				t.Errorf("%d of %d calls failed: %v", len(errs), done.Load(), errs[0])
			}
			t.Logf("%d calls, %d attempts more, %d ejections", done.Load(), len(recorded[client.CallRetried](w.events)), len(recorded[client.InstanceEjected](w.events)))
			balanced("after")
			for _, s := range fleet {
				if got := s.open(); got != 1 {
					t.Errorf("there are %d connections to %s", got, s.id)
				}
			}
		})
	}
}

// TestNetRPCEjection: an instance that fails fast is kept from calls after as
// many failures as over gRPC, and comes back by a real call.
func TestNetRPCEjection(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Ejection: outlier.Config{Base: 300 * time.Millisecond}}
	}))
	sick := w.hello(t, "sick")
	w.hello(t, "b")
	w.hello(t, "c")
	n := w.netrpc(t)
	rpcConnected(t, n, 3)
	sick.fail(func(string) error { return errors.New("out of order") })
	lost := 0
	for range 60 {
		if _, err := said(t.Context(), n, "x"); err != nil {
			lost++
		}
	}
	if lost != outlier.DefaultConsecutive {
		t.Errorf("%d calls were lost on an instance that fails, want those that it takes to notice, %d", lost, outlier.DefaultConsecutive)
	}
	out := recorded[client.InstanceEjected](w.events)
	if len(out) != 1 || out[0].Instance != "sick" || out[0].Protocol != "netrpc" || out[0].Addr != sick.addr || !out[0].KeptOut || out[0].Reason != string(outlier.ReasonConsecutive) {
		t.Fatalf("the ejections were told as %+v", out)
	}
	sick.fail(nil)
	eventually(t, "the instance is back", func() bool {
		if _, err := said(t.Context(), n, "x"); err != nil {
			t.Fatal(err)
		}
		return len(recorded[client.InstanceReturned](w.events)) == 1
	})
}

// TestNetRPCAnswersAreNoFailures: with a code for them, errors that are answers
// eject nobody.
func TestNetRPCAnswersAreNoFailures(t *testing.T) {
	w := newWorld(t)
	w.hello(t, "a").fail(func(string) error { return errors.New("no such user") })
	w.hello(t, "b")
	n := w.netrpc(t, client.WithServerErrorCode(func(string, rpc.ServerError) codes.Code { return codes.NotFound }))
	for range 60 {
		if _, err := said(t.Context(), n, "x"); err != nil && middleware.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
	}
	if out := recorded[client.InstanceEjected](w.events); len(out) > 0 {
		t.Errorf("ejected for its answers: %+v", out)
	}
}

// TestNetRPCHang: an instance that takes calls and does not answer is ejected for
// its timeouts, idempotent calls do not notice, and it comes back.
func TestNetRPCHang(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{
			Balancer: balancer.NameRoundRobin, AttemptTimeout: 30 * time.Millisecond, Timeout: 10 * time.Second,
			Ejection: outlier.Config{Base: 300 * time.Millisecond},
		}
	}))
	sick := w.hello(t, "sick")
	w.hello(t, "b")
	w.hello(t, "c")
	n := w.netrpc(t, client.WithIdempotentMethods(say))
	rpcConnected(t, n, 3)
	hold := make(chan struct{})
	sick.fail(func(string) error { <-hold; return nil })
	for range 60 {
		if _, err := said(t.Context(), n, "x"); err != nil {
			t.Fatal(err)
		}
	}
	out := recorded[client.InstanceEjected](w.events)
	if len(out) == 0 || out[0].Instance != "sick" || !out[0].KeptOut {
		t.Fatalf("the ejections were told as %+v", out)
	}
	if retried := recorded[client.CallRetried](w.events); len(retried) == 0 || retried[0].Reason != retry.ReasonTimeout {
		t.Errorf("retries were told as %+v", retried)
	}
	sick.fail(nil)
	close(hold)
	eventually(t, "the instance is back", func() bool {
		if _, err := said(t.Context(), n, "x"); err != nil {
			t.Fatal(err)
		}
		return len(recorded[client.InstanceReturned](w.events)) == 1
	})
}

// TestNetRPCHedge: the second attempt's answer is the one that is used.
func TestNetRPCHedge(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Hedge: retry.HedgePolicy{Enabled: true, Delay: 20 * time.Millisecond}}
	}))
	slow := w.hello(t, "slow")
	w.hello(t, "b")
	n := w.netrpc(t)
	rpcConnected(t, n, 2)
	hold := make(chan struct{})
	defer close(hold)
	slow.fail(func(string) error { <-hold; return nil })
	for range 10 {
		if got, err := said(idempotent(t), n, "x"); err != nil || got != "b: x" {
			t.Fatalf("answered %q, %v", got, err)
		}
	}
	hedged := recorded[client.CallHedged](w.events)
	if len(hedged) < 3 {
		t.Errorf("only %d calls were hedged", len(hedged))
	}
	for _, e := range hedged {
		if !e.Won {
			t.Errorf("told of %+v", e)
		}
	}
}
