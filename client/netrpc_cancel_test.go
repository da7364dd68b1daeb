package client_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"net"
	"net/rpc"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// TestNetRPCCancel: a call returns when its context ends, whatever the server
// does, and its answer never reaches the caller's reply after that.
func TestNetRPCCancel(t *testing.T) {
	w := newWorld(t)
	s := w.hello(t, "a")
	n := w.netrpc(t)
	rpcConnected(t, n, 1)
	var answered, cancelled atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				// From "long before the answer" to "long after it".
				ctx, cancel := context.WithCancel(t.Context())
				stop := time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				reply := "mine"
				err := n.Call(ctx, say, "x", &reply)
				stop.Stop()
				cancel()
				if err == nil {
					answered.Add(1)
				} else {
					cancelled.Add(1)
				}
				switch {
				case err == nil && reply != "a: x":
					t.Errorf("the reply of a call that went well is %q", reply)
				case err != nil && reply != "mine":
					t.Errorf("the reply of a call that failed is %q", reply)
				case err != nil && middleware.Code(err) != codes.Canceled:
					t.Errorf("error is %v", err)
				}
				reply = "changed" // a late write would race with this
			}
		})
	}
	wg.Wait()
	if answered.Load() == 0 || cancelled.Load() == 0 {
		t.Errorf("%d calls were answered and %d cancelled: the test needs both", answered.Load(), cancelled.Load())
	}
	if out := recorded[client.InstanceEjected](w.events); len(out) > 0 {
		t.Errorf("ejected for being cancelled: %+v", out)
	}
	if got, err := said(t.Context(), n, "x"); err != nil || got != "a: x" {
		t.Errorf("a call after all that is answered %q, %v", got, err)
	}
	eventually(t, "the server has answered all", func() bool { return s.open() <= 1 })
}

// TestNetRPCLateReply is the worst moment: the answer is being read when the call
// ends.
func TestNetRPCLateReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := newWorld(t, client.WithDialer(func(context.Context, string) (net.Conn, error) { return near, nil }))
		w.announce(t, registry.Instance{ID: "a", Endpoints: map[string]string{"netrpc": "a:1"}})
		n := w.netrpc(t)
		dec, enc := gob.NewDecoder(far), gob.NewEncoder(far)
		request := func() {
			var head rpc.Request
			var args string
			if err := errors.Join(dec.Decode(&head), dec.Decode(&args), enc.Encode(rpc.Response{Seq: head.Seq})); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		reply := "mine"
		failed := make(chan error)
		go func() { failed <- n.Call(ctx, say, "x", &reply) }()
		request()
		synctest.Wait() // the client waits for the rest
		cancel()
		if err := <-failed; middleware.Code(err) != codes.Canceled {
			t.Errorf("error is %v", err)
		}
		answered := make(chan string)
		go func() {
			got, err := said(t.Context(), n, "x")
			if err != nil {
				t.Error(err)
			}
			answered <- got
		}()
		if err := enc.Encode("late"); err != nil {
			t.Error(err)
		}
		request()
		if err := enc.Encode("second"); err != nil {
			t.Error(err)
		}
		if got := <-answered; got != "second" {
			t.Errorf("the next call was answered %q", got)
		}
		if reply != "mine" {
			t.Errorf("the reply became %q after the call had returned", reply)
		}
	})
}

// TestNetRPCArgumentsAreNotKept: after a call has returned, the caller may change
// what it has sent, also where the server has not read it yet.
func TestNetRPCArgumentsAreNotKept(t *testing.T) {
	w := newWorld(t)
	w.talk(t, "mute", nil)
	n := w.netrpc(t)
	args := bytes.Repeat([]byte{1}, 1<<20)
	for range 8 { // more than the socket takes
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		err := n.Call(ctx, say, args, nil)
		cancel()
		if middleware.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error is %v", err)
		}
		clear(args)
	}
}

// TestNetRPCDeadline: the timeout of the settings holds, and a call that ran into
// it is gone from the count of calls in flight.
func TestNetRPCDeadline(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Timeout: 200 * time.Millisecond, Balancer: balancer.NameLeastRequest}
	}))
	hang := w.hello(t, "a")
	n := w.netrpc(t)
	rpcConnected(t, n, 1)
	hold := make(chan struct{})
	hang.fail(func(name string) error {
		if name == "held" {
			<-hold
		}
		return nil
	})
	defer close(hold)
	for range 3 {
		if _, err := said(t.Context(), n, "held"); !errors.Is(err, context.DeadlineExceeded) || middleware.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error is %v", err)
		}
	}
	// With a call still counted in, the other one would get most of the calls.
	w.hello(t, "b")
	rpcConnected(t, n, 2)
	before := hang.calls.Load()
	for range 40 {
		if _, err := said(t.Context(), n, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if got := hang.calls.Load() - before; got < 5 {
		t.Errorf("the instance has got %d of 40 calls", got)
	}
}

// TestNetRPCConnectTimeout: a server that takes the connection and does not answer
// CONNECT is one that cannot be reached: nothing was sent.
func TestNetRPCConnectTimeout(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{ConnectTimeout: 30 * time.Millisecond, Retry: retry.Policy{MaxAttempts: 2}}
	}))
	w.talk(t, "mute", nil)
	_, err := said(t.Context(), w.netrpc(t, client.WithRPCPath(rpc.DefaultRPCPath)), "x")
	if middleware.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "CONNECT "+rpc.DefaultRPCPath) {
		t.Errorf("error is %v", err)
	}
	if retried := recorded[client.CallRetried](w.events); len(retried) != 1 || retried[0].Reason != retry.ReasonUnsent {
		t.Errorf("retries were told as %+v", retried)
	}
}

// TestNetRPCSharedDial: calls that begin together share one connection, and one
// that gives up leaves it to the others.
func TestNetRPCSharedDial(t *testing.T) {
	begun, hold := make(chan struct{}, 10), make(chan struct{})
	var d net.Dialer
	w := newWorld(t, client.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		begun <- struct{}{}
		<-hold
		return d.DialContext(ctx, "tcp", addr)
	}))
	w.hello(t, "a")
	n := w.netrpc(t)
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := said(ctx, n, "x"); first <- err }()
	<-begun
	go func() { _, err := said(t.Context(), n, "x"); second <- err }()
	cancel()
	if err := <-first; middleware.Code(err) != codes.Canceled {
		t.Errorf("the call that gave up: %v", err)
	}
	close(hold)
	if err := <-second; err != nil {
		t.Errorf("the call that did not: %v", err)
	}
	if len(begun) > 0 {
		t.Errorf("it was dialled %d times more", len(begun))
	}
	if out := recorded[client.InstanceEjected](w.events); len(out) > 0 {
		t.Errorf("ejected: %+v", out)
	}
}

// TestNetRPCClosedWhileConnecting: Close waits for nobody who connects.
func TestNetRPCClosedWhileConnecting(t *testing.T) {
	begun := make(chan struct{}, 10)
	w := newWorld(t, client.WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}), client.WithSettings(func(string, string) client.Settings {
		return client.Settings{ConnectTimeout: time.Hour}
	}))
	w.hello(t, "a")
	n := w.netrpc(t)
	failed := make(chan error, 1)
	go func() { _, err := said(context.Background(), n, "x"); failed <- err }()
	<-begun
	if err := w.client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, client.ErrClosed) {
		t.Errorf("error is %v", err)
	}
}
