package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/registry"
)

// work is a handler that takes a millisecond, so that calls are in flight.
func work(ctx context.Context, _ string) error {
	if !pause(ctx, time.Millisecond) {
		return ctx.Err()
	}
	return nil
}

func TestKillOneOfTwoLosesNoIdempotentCall(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(t, "a", work), w.start(t, "b", work)
	conn := w.conn(t)
	connected(t, conn, 2)

	stop := make(chan struct{})
	var done atomic.Int64
	lost := make(chan []error)
	go func() { lost <- load(t, conn, methodGet, stop, &done) }()

	eventually(t, "300 calls are done", func() bool { return done.Load() > 300 })
	held := make(chan struct{}, 8) // as many calls as there are at once
	a.fail(func(ctx context.Context, _ string) error {
		held <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	<-held
	a.server.Stop() // connections are cut, calls in flight with them
	before := b.calls.Load()
	eventually(t, "b has served 300 more", func() bool { return b.calls.Load() > before+300 })
	again := listen(t, "a", a.addr, work) // the same address, a new process
	eventually(t, "calls reach a again", func() bool { return again.calls.Load() > 100 })
	close(stop)

	if errs := <-lost; len(errs) > 0 {
		t.Errorf("%d of %d calls were lost, the first with: %v", len(errs), done.Load(), errs[0])
	}
	if got := recorded[client.CallRetried](w.events); len(got) == 0 {
		t.Error("no call was retried: the test has not cut a call in flight")
	} else if got[0].Instance != "a" || got[0].Service != "echo" || !strings.HasSuffix(methodGet, "/"+got[0].Method) || got[0].Attempt != 1 {
		t.Errorf("the event is %+v", got[0])
	}
}

func TestSentCallIsNotRepeated(t *testing.T) {
	w := newWorld(t)
	var handled atomic.Int64
	for _, id := range []string{"a", "b"} {
		e := w.start(t, id, nil)
		e.fail(func(ctx context.Context, method string) error {
			if method == methodPut {
				handled.Add(1)
				go e.server.Stop() // the work has begun, and its connection is cut
				<-ctx.Done()
			}
			return nil
		})
	}
	conn := w.conn(t)
	connected(t, conn, 2)
	_, err := call(t.Context(), conn, methodPut)
	if status.Code(err) != codes.Unavailable || handled.Load() != 1 {
		t.Errorf("error is %v after the call was handled %d times, want UNAVAILABLE after once", err, handled.Load())
	}
	if got := recorded[client.CallRetried](w.events); len(got) != 0 {
		t.Errorf("it was retried: %+v", got)
	}
}

func TestGracefulStopLosesNothing(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(t, "a", work), w.start(t, "b", work)
	conn := w.conn(t)
	connected(t, conn, 2)
	stop := make(chan struct{})
	var done atomic.Int64
	lost := make(chan []error)
	go func() { lost <- load(t, conn, methodPut, stop, &done) }()

	eventually(t, "300 calls are done", func() bool { return done.Load() > 300 })
	a.server.GracefulStop() // what it has not taken on is unprocessed, and may go elsewhere
	before := b.calls.Load()
	eventually(t, "b has served 300 more", func() bool { return b.calls.Load() > before+300 })
	close(stop)
	if errs := <-lost; len(errs) > 0 {
		t.Errorf("%d of %d calls were lost, the first with: %v", len(errs), done.Load(), errs[0])
	}
}

func TestDrainingGetsNoNewCalls(t *testing.T) {
	marks := map[string]func(t *testing.T, w *world, e *echo){
		"in the registry": func(t *testing.T, w *world, e *echo) {
			w.announce(t, registry.Instance{ID: e.id, Endpoints: map[string]string{"grpc": e.addr}, State: registry.Draining})
		},
		"by its health": func(_ *testing.T, _ *world, e *echo) {
			e.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		},
	}
	for name, mark := range marks {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.start(t, "a", nil), w.start(t, "b", nil)
			conn := w.conn(t)
			connected(t, conn, 2)
			mark(t, w, a)
			row := 0 // calls in a row that a has not seen
			eventually(t, "a gets no more calls", func() bool {
				before := a.calls.Load()
				if _, err := call(t.Context(), conn, methodPut); err != nil {
					t.Fatal(err)
				}
				if row++; a.calls.Load() != before {
					row = 0
				}
				return row > 100
			})
			if b.calls.Load() < 100 {
				t.Errorf("b has got only %d calls", b.calls.Load())
			}
		})
	}
}

func TestAllDrainingIsBetterThanNothing(t *testing.T) {
	w := newWorld(t)
	a := w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	w.announce(t, registry.Instance{ID: a.id, Endpoints: map[string]string{"grpc": a.addr}, State: registry.Draining})
	for range 100 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRegistryDownAtStart(t *testing.T) {
	w := newWorld(t)
	w.store.SetDown(errors.New("connection refused"))
	conn := w.conn(t)
	start := time.Now()
	_, err := call(t.Context(), conn, methodGet)
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("error is %v, want UNAVAILABLE", err)
	}
	for _, part := range []string{`"echo"`, "registry memory", "since 2", "connection refused", "check that it runs"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("the error took %s", took)
	}
	w.store.SetDown(nil)
	w.start(t, "a", nil)
	eventually(t, "calls succeed", func() bool {
		_, err := call(t.Context(), conn, methodGet)
		return err == nil
	})
	failed, changed := recorded[client.ViewFailed](w.events), toldOf[client.ViewChanged](t, w.events)
	if len(failed) != 1 || failed[0].Registry != "memory" || failed[0].Protocol != "grpc" {
		t.Errorf("the outage was told as %+v", failed)
	}
	if len(changed) == 0 || !changed[0].First {
		t.Errorf("the first list was told as %+v", changed)
	}
}

func TestRegistryOutageKeepsTheList(t *testing.T) {
	w := newWorld(t)
	w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	w.store.SetDown(errors.New("connection refused"))
	eventually(t, "the client knows of the outage", func() bool {
		failed := recorded[client.ViewFailed](w.events)
		return len(failed) > 0 && failed[0].Kept == 1
	})
	for range 100 {
		if _, err := call(t.Context(), conn, methodGet); err != nil {
			t.Fatal(err)
		}
	}
	w.store.SetDown(nil)
}

func TestNobodyRegistered(t *testing.T) {
	w := newWorld(t)
	conn := w.conn(t)
	_, err := call(t.Context(), conn, methodGet)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `no instance of "echo" is registered (registry memory)`) {
		t.Errorf("error is %v", err)
	}
	w.announce(t, registry.Instance{ID: "web", Endpoints: map[string]string{"http": "127.0.0.1:1"}})
	eventually(t, "the error names the missing endpoint", func() bool {
		_, err := call(t.Context(), conn, methodGet)
		return err != nil && strings.Contains(err.Error(), `no instance of "echo" has a "grpc" endpoint`) && strings.Contains(err.Error(), "web")
	})
	w.start(t, "a", nil)
	eventually(t, "calls succeed", func() bool {
		_, err := call(t.Context(), conn, methodGet)
		return err == nil
	})
}

func TestNobodyReachable(t *testing.T) {
	w := newWorld(t)
	e := w.start(t, "a", nil)
	e.server.Stop()
	_, err := call(t.Context(), w.conn(t), methodGet)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `none of the 1 known instances of "echo" can be called`) {
		t.Errorf("error is %v", err)
	}
}

func TestRoundRobinSetting(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin}
	}))
	w.start(t, "a", nil)
	w.start(t, "b", nil)
	w.start(t, "c", nil)
	conn := w.conn(t)
	connected(t, conn, 3)
	counts := map[string]int{}
	for range 30 {
		id, err := call(t.Context(), conn, methodGet)
		if err != nil {
			t.Fatal(err)
		}
		counts[id]++
	}
	if counts["a"] != 10 || counts["b"] != 10 || counts["c"] != 10 {
		t.Errorf("30 calls went to %v", counts)
	}
}

// TestRoundRobinOfEach: whose turn it is over one protocol is not moved on by calls
// over another one.
func TestRoundRobinOfEach(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin}
	}))
	w.start(t, "a", nil)
	w.start(t, "b", nil)
	c, d := w.web(t, "c", nil), w.web(t, "d", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	grpc := map[string]int{}
	for range 20 {
		id, err := call(t.Context(), conn, methodGet)
		if err != nil {
			t.Fatal(err)
		}
		grpc[id]++
		if _, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
	}
	if grpc["a"] != 10 || c.calls.Load() != 10 || d.calls.Load() != 10 {
		t.Errorf("20 calls over each went to %v, and to c %d and d %d times", grpc, c.calls.Load(), d.calls.Load())
	}
}

func TestWaitForReady(t *testing.T) {
	w := newWorld(t)
	conn := w.conn(t)
	answer := make(chan error, 1)
	go func() {
		_, err := call(context.Background(), conn, methodGet, grpc.WaitForReady(true))
		answer <- err
	}()
	w.start(t, "a", nil)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}
