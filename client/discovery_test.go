package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// fleet runs n instances that no registry looks after.
func (w *world) fleet(t *testing.T, n int) []*echo {
	t.Helper()
	var all []*echo
	for i := range n {
		e := listen(t, fmt.Sprint("i-", i), "127.0.0.1:0", nil)
		w.put(t, registry.Instance{ID: e.id, Endpoints: map[string]string{"grpc": e.addr}})
		all = append(all, e)
	}
	return all
}

// counts waits for what the client knows of its only service.
func (w *world) counts(t *testing.T, up, draining, quarantined int) {
	t.Helper()
	want := client.View{Up: up, Draining: draining, Quarantined: quarantined}
	var got client.View
	eventually(t, fmt.Sprintf("the list is %+v", want), func() bool {
		views := w.client.Views()
		if len(views) != 1 {
			return false
		}
		got = client.View{Up: views[0].Up, Draining: views[0].Draining, Quarantined: views[0].Quarantined}
		return got == want
	})
}

func TestLapsesLoseNoCall(t *testing.T) {
	for _, tt := range []struct {
		name string
		gone int
	}{{"two of four", 2}, {"all", 4}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			all := w.fleet(t, 4)
			conn := w.conn(t)
			connected(t, conn, 4)
			stop := make(chan struct{})
			var done atomic.Int64
			lost := make(chan []error)
			go func() { lost <- load(t, conn, methodPut, stop, &done) }()

			for _, e := range all[:tt.gone] {
				w.lapse(e.id)
			}
			w.counts(t, 4-tt.gone, 0, tt.gone)
			before, calls := done.Load(), all[0].calls.Load()
			eventually(t, "500 calls more are done", func() bool { return done.Load() > before+500 })
			close(stop)
			if errs := <-lost; len(errs) > 0 {
				t.Errorf("%d of %d calls were lost, the first with: %v", len(errs), done.Load(), errs[0])
			}
			if all[0].calls.Load() == calls {
				t.Error("an instance that serves is no longer called because the registry has lost it")
			}
			if got := told[registry.MassLapse](w.told); len(got) != 1 || got[0].Of != 4 {
				t.Errorf("the mass lapse was told as %+v", got)
			}
			// They come back, and that is all.
			for _, e := range all[:tt.gone] {
				w.put(t, registry.Instance{ID: e.id, Endpoints: map[string]string{"grpc": e.addr}})
			}
			w.counts(t, 4, 0, 0)
		})
	}
}

func TestQuarantineEndsWithTheFirstFailure(t *testing.T) {
	tests := map[string]struct {
		before, after func(e *echo) // the lapse
	}{
		"killed, then lapsed": {before: func(e *echo) { e.server.Stop() }},
		"lapsed, then killed": {after: func(e *echo) { e.server.Stop() }},
		"not serving, then lapsed": {before: func(e *echo) {
			e.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		}},
		"lapsed, then not serving": {after: func(e *echo) {
			e.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			all := w.fleet(t, 3)
			sick := all[0]
			conn := w.conn(t)
			connected(t, conn, 3)
			if tt.before != nil {
				tt.before(sick)
			}
			w.lapse(sick.id)
			if tt.after != nil {
				w.counts(t, 2, 0, 1)
				tt.after(sick)
			}
			w.counts(t, 2, 0, 0)
			got := told[registry.InstanceDropped](w.told)
			if len(got) != 1 || got[0].ID != sick.id || got[0].Err == nil || !strings.Contains(got[0].Err.Error(), sick.addr) {
				t.Errorf("it was told as %+v", got)
			}
		})
	}
}

func TestHTTPQuarantineEndsWithTheFirstFailure(t *testing.T) {
	w := newWorld(t)
	a, b := w.web(t, "a", nil), w.web(t, "b", nil)
	if err := w.registry.Withdraw(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	w.put(t, registry.Instance{ID: "a", Endpoints: map[string]string{"http": a.Listener.Addr().String()}})
	h := w.client.HTTP("echo")
	webConnected(t, h, 2)
	w.lapse("a")
	w.counts(t, 1, 0, 1)
	webConnected(t, h, 2) // it answers, so it is called
	a.kill()
	eventually(t, "the dead one is dropped", func() bool {
		status, id, err := text(t, h, http.MethodGet, nil)
		if err != nil || status != http.StatusOK || id != "b" {
			t.Fatalf("status %d from %q, %v", status, id, err)
		}
		return len(told[registry.InstanceDropped](w.told)) == 1
	})
	w.counts(t, 1, 0, 0)
	if b.calls.Load() == 0 {
		t.Error("b was not called")
	}
}

func TestStartWithoutARegistry(t *testing.T) {
	dir := t.TempDir()
	store := memory.NewStore()
	snapshots := []registry.Option{registry.WithSnapshots(dir)}
	first := openWorld(t, store, snapshots)
	a := first.fleet(t, 1)[0]
	connected(t, first.conn(t), 1)
	if err := errors.Join(first.client.Close(), first.registry.Close()); err != nil {
		t.Fatal(err)
	}

	store.SetDown(errors.New("connection refused"))
	w := openWorld(t, store, snapshots)
	begun := time.Now()
	if id, err := call(t.Context(), w.conn(t), methodPut); err != nil || id != a.id {
		t.Fatalf("answer of %q, %v", id, err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the first call took %s", took)
	}
	views := w.client.Views()
	if len(views) != 1 || views[0].Source != registry.SourceSnapshot || views[0].At.IsZero() {
		t.Errorf("the list is %+v, want one from a snapshot", views)
	}
	changed := toldOf[client.ViewChanged](t, w.events)
	if len(changed) == 0 || changed[0].Source != registry.SourceSnapshot || changed[0].Instances != 1 {
		t.Errorf("it was told as %+v", changed)
	}

	// A server that starts meanwhile is announced, and called, once that can be.
	late := listen(t, "late", "127.0.0.1:0", nil)
	w.announce(t, registry.Instance{ID: "late", Endpoints: map[string]string{"grpc": late.addr}})
	store.SetDown(nil)
	connected(t, w.conn(t), 2)
	if views := w.client.Views(); views[0].Source != registry.SourceRegistry {
		t.Errorf("the list is %+v, want the registry's", views)
	}
}

func TestFallback(t *testing.T) {
	store := memory.NewStore()
	store.SetDown(errors.New("connection refused"))
	a := listen(t, "a", "127.0.0.1:0", nil)
	w := openWorld(t, store, []registry.Option{registry.WithFallback(map[string][]registry.Instance{
		"echo": {{ID: "a", Endpoints: map[string]string{"grpc": a.addr}}},
	})})
	if id, err := call(t.Context(), w.conn(t), methodPut); err != nil || id != "a" {
		t.Fatalf("answer of %q, %v", id, err)
	}
	a.server.Stop()
	eventually(t, "the error says where the list is from", func() bool {
		_, err := call(t.Context(), w.conn(t), methodPut)
		return err != nil && strings.Contains(err.Error(), "the list is the configured fallback, and registry memory gives none")
	})
	store.SetDown(nil)
}

// TestStaleListFailsFast is F12: the registry is silent and every instance has
// moved.
func TestStaleListFailsFast(t *testing.T) {
	sources := map[string]string{
		"list":     "registry memory silent since 2",
		"snapshot": "the list is from a snapshot of ",
	}
	for source, want := range sources {
		t.Run(source, func(t *testing.T) {
			store := memory.NewStore()
			opts := []registry.Option{registry.WithSnapshots(t.TempDir())}
			w := openWorld(t, store, opts)
			all := w.fleet(t, 3)
			connected(t, w.conn(t), 3)
			store.SetDown(errors.New("connection refused"))
			if source == "snapshot" {
				if err := errors.Join(w.client.Close(), w.registry.Close()); err != nil {
					t.Fatal(err)
				}
				w = openWorld(t, store, opts)
				connected(t, w.conn(t), 3)
			}
			for _, e := range all {
				e.server.Stop()
			}
			conn := w.conn(t)
			eventually(t, "the error says how old the list is", func() bool {
				_, err := call(t.Context(), conn, methodPut)
				return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), want) &&
					strings.Contains(err.Error(), `none of the 3 known instances of "echo" can be called`) &&
					strings.Contains(err.Error(), "connection refused")
			})
			// The fastest of some: the machine may be busy.
			fastest := time.Hour
			for range 20 {
				begun := time.Now()
				if _, err := call(t.Context(), conn, methodPut); status.Code(err) != codes.Unavailable {
					t.Fatalf("error is %v", err)
				}
				fastest = min(fastest, time.Since(begun))
			}
			if fastest > 50*time.Millisecond {
				t.Errorf("the error takes %s", fastest)
			}
			// Healed, it works on the new addresses.
			for _, e := range all {
				moved := listen(t, e.id, "127.0.0.1:0", nil)
				w.put(t, registry.Instance{ID: e.id, Endpoints: map[string]string{"grpc": moved.addr}})
			}
			store.SetDown(nil)
			connected(t, conn, 3)
		})
	}
}

func TestOneThatDrainsAloneIsCalled(t *testing.T) {
	w := newWorld(t)
	a := w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	// What SIGTERM does.
	a.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	w.announce(t, registry.Instance{ID: a.id, Endpoints: map[string]string{"grpc": a.addr}, State: registry.Draining})
	eventually(t, "the client knows that it is the last resort", func() bool {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
		return len(recorded[client.LastResort](w.events)) > 0
	})
	for range 100 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	if got := recorded[client.LastResort](w.events); len(got) != 1 || got[0].Instances != 1 || got[0].Service != "echo" {
		t.Errorf("it was told as %+v", got)
	}
	// Its successor gets the calls as soon as it serves.
	b := w.start(t, "b", nil)
	connected(t, conn, 1)
	row := 0
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
}

func TestDrainingOneIsCalledIfTheOthersCannotBe(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(t, "a", nil), w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	w.announce(t, registry.Instance{ID: a.id, Endpoints: map[string]string{"grpc": a.addr}, State: registry.Draining})
	w.counts(t, 1, 1, 0)
	b.server.Stop()
	eventually(t, "a is called again", func() bool {
		id, err := call(t.Context(), conn, methodGet)
		return err == nil && id == "a"
	})
	for range 50 {
		if id, err := call(t.Context(), conn, methodPut); err != nil || id != "a" {
			t.Fatalf("answer of %q, %v", id, err)
		}
	}
}

func TestNewInstanceIsProbedBeforeItsFirstCall(t *testing.T) {
	w := newWorld(t)
	a := w.start(t, "a", nil)
	conn := w.conn(t)
	connected(t, conn, 1)
	b := listen(t, "b", "127.0.0.1:0", nil)
	b.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	w.announce(t, registry.Instance{ID: "b", Endpoints: map[string]string{"grpc": b.addr}})
	w.counts(t, 2, 0, 0)
	for range 200 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	if b.calls.Load() != 0 || a.calls.Load() < 200 {
		t.Errorf("b got %d calls before it served", b.calls.Load())
	}
	b.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	connected(t, conn, 2)
}

func TestNewInstanceStartsSlowly(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"a", "b", "c"} {
		e := listen(t, id, "127.0.0.1:0", nil)
		w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"grpc": e.addr}, Started: time.Now().Add(-time.Hour)})
	}
	conn := w.conn(t)
	connected(t, conn, 3)
	young := listen(t, "young", "127.0.0.1:0", nil)
	w.announce(t, registry.Instance{ID: "young", Endpoints: map[string]string{"grpc": young.addr}, Started: time.Now()})
	connected(t, conn, 4)
	begun, before := time.Now(), young.calls.Load()
	const calls = 1000
	for range calls {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	// The more time it took, the more it may have; a quarter is the full share.
	age := time.Since(begun) + 2*time.Second
	share := float64(young.calls.Load()-before) / calls
	if most := 0.1 + 0.9*age.Seconds()/10; share > 0.25*min(most, 1)*1.4 {
		t.Errorf("%.3f of the calls went to an instance that has just started", share)
	}
}

// TestOneLayerRetries is F20: in a chain of three hops only the one next to the
// failure retries.
func TestOneLayerRetries(t *testing.T) {
	for _, relay := range []struct {
		name string
		wrap func(error) error
	}{
		{"returned as it is", func(err error) error { return err }},
		{"wrapped", func(err error) error { return fmt.Errorf("ask c: %w", err) }},
	} {
		t.Run(relay.name, func(t *testing.T) {
			c, b, a := newWorld(t), newWorld(t), newWorld(t)
			var offered, attempts atomic.Int64
			for _, id := range []string{"c1", "c2"} {
				c.start(t, id, func(context.Context, string) error {
					attempts.Add(1)
					return status.Error(codes.Unavailable, "as the test wants it")
				})
			}
			hop := func(w *world, next *world, id string) {
				conn := next.conn(t)
				w.startServer(t, id, func(ctx context.Context, _ string) error {
					_, err := call(ctx, conn, methodGet)
					return relay.wrap(err)
				})
			}
			for i := range 2 {
				hop(b, c, fmt.Sprint("b", i))
			}
			for i := range 2 {
				hop(a, b, fmt.Sprint("a", i))
			}
			conn := a.conn(t)
			for range 400 {
				offered.Add(1)
				if _, err := call(t.Context(), conn, methodGet); status.Code(err) != codes.Unavailable {
					t.Fatalf("error is %v", err)
				}
			}
			// The budget is a tenth, and twenty to start with.
			if most := 1.1*float64(offered.Load()) + 25; float64(attempts.Load()) > most {
				t.Errorf("%d attempts at c for %d calls, want at most %.0f", attempts.Load(), offered.Load(), most)
			}
			for name, w := range map[string]*world{"the caller": a, "a": b} {
				if got := recorded[client.CallRetried](w.events); len(got) > 0 {
					t.Errorf("%s retried %d times, the first time for %s", name, len(got), got[0].Reason)
				}
			}
			if len(recorded[client.CallRetried](c.events)) == 0 {
				t.Error("b did not retry")
			}
		})
	}
}
