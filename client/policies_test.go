package client_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	reports "plinth.internal/middleware/load"
	"plinth.internal/registry"
)

// startReporting is start with a server that says how busy it is.
func (w *world) startReporting(t *testing.T, id string, handle func(context.Context, string) error) *echo {
	t.Helper()
	tracker := reports.New()
	e := listen(t, id, "127.0.0.1:0", handle, grpc.UnaryInterceptor(middleware.UnaryServer(tracker.Middleware())))
	w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"grpc": e.addr}})
	return e
}

func using(name string) client.Option {
	return client.WithSettings(func(string, string) client.Settings { return client.Settings{Balancer: name} })
}

// TestEjection: what fails is kept from calls that are not repeated, and comes
// back by a real call, which a health check that says SERVING is not.
func TestEjection(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Ejection: outlier.Config{Base: 300 * time.Millisecond}}
	}))
	sick := w.start(t, "sick", nil)
	for _, id := range []string{"b", "c"} {
		w.start(t, id, nil)
	}
	conn := w.conn(t)
	connected(t, conn, 3)
	sick.fail(reply(codes.Unknown))
	lost := 0
	for range 60 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			lost++
		}
	}
	if lost != outlier.DefaultConsecutive {
		t.Errorf("%d calls were lost on an instance that fails, want those that it takes to notice, %d", lost, outlier.DefaultConsecutive)
	}
	out := recorded[client.InstanceEjected](w.events)
	if len(out) != 1 || out[0].Instance != "sick" || out[0].Addr != sick.addr || out[0].Share <= 0.5 || out[0].Run != outlier.DefaultConsecutive || !out[0].KeptOut || out[0].Times != 1 || out[0].Reason != string(outlier.ReasonConsecutive) {
		t.Fatalf("the ejections were told as %+v", out)
	}
	// The trial fails, and the instance is out for twice as long.
	eventually(t, "a trial was made", func() bool {
		_, _ = call(t.Context(), conn, methodPut)
		return len(recorded[client.InstanceEjected](w.events)) == 2
	})
	if second := recorded[client.InstanceEjected](w.events)[1]; second.Times != 2 || second.For < 500*time.Millisecond {
		t.Errorf("the second ejection is %+v", second)
	}
	sick.fail(nil)
	eventually(t, "the instance is back", func() bool {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
		return len(recorded[client.InstanceReturned](w.events)) == 1
	})
}

// TestEjectionIgnoresTheCaller: what the caller does is not the instance's fault.
func TestEjectionIgnoresTheCaller(t *testing.T) {
	w := newWorld(t)
	hang := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	w.start(t, "a", hang)
	w.start(t, "b", hang)
	conn := w.conn(t)
	for range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if _, err := call(ctx, conn, methodPut); status.Code(err) != codes.Canceled {
			t.Fatalf("error is %v", err)
		}
	}
	if out := recorded[client.InstanceEjected](w.events); len(out) > 0 {
		t.Errorf("ejected for being cancelled: %+v", out)
	}
}

// TestBounce: an instance that is much busier than the others hands calls back,
// and the caller does not notice, even of one that must not be repeated.
func TestBounce(t *testing.T) {
	w := newWorld(t, using(balancer.NameRoundRobin)) // which would not notice the load by itself
	block := make(chan struct{})
	var held atomic.Int64
	busy := w.startReporting(t, "busy", nil)
	for _, id := range []string{"b", "c"} {
		w.startReporting(t, id, nil)
	}
	conn := w.conn(t)
	connected(t, conn, 3)
	for range 30 { // so that the reports of all three are known
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(ctx context.Context, _ string) error {
		held.Add(1)
		defer held.Add(-1)
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil
	}
	busy.fail(hold)
	direct := w.direct(t, busy.addr)
	done := make(chan error, 20)
	for range cap(done) {
		go func() {
			_, err := call(t.Context(), direct, methodPut)
			done <- err
		}()
	}
	eventually(t, "the instance is busy", func() bool { return held.Load() == int64(cap(done)) })
	for range 60 {
		id, err := call(t.Context(), conn, methodPut)
		if err != nil || id == "busy" {
			t.Fatalf("answered %q, %v", id, err)
		}
	}
	if got := recorded[client.CallBounced](w.events); len(got) < 15 || got[0].Instance != "busy" {
		t.Errorf("%d bounces were told: %+v", len(got), got)
	}
	if got := recorded[client.CallRetried](w.events); len(got) > 0 {
		t.Errorf("a bounce was told as a retry: %+v", got)
	}
	if got := recorded[client.InstanceEjected](w.events); len(got) > 0 {
		t.Errorf("a bounce was held against the instance: %+v", got)
	}
	close(block)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestBounceOnlyTheFirstAttempt: a retry must be taken, however busy everybody
// is, or the caller would be told of a bounce.
func TestBounceOnlyTheFirstAttempt(t *testing.T) {
	w := newWorld(t)
	var failed atomic.Int64
	limits := make(chan int, 100)
	handle := func(ctx context.Context, _ string) error {
		limits <- len(metadata.ValueFromIncomingContext(ctx, reports.HeaderLimit))
		if failed.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "once")
		}
		return nil
	}
	for _, id := range []string{"a", "b", "c"} {
		w.startReporting(t, id, handle)
	}
	conn := w.conn(t)
	connected(t, conn, 3)
	for len(limits) > 0 {
		<-limits
	}
	failed.Store(1)
	if _, err := call(t.Context(), conn, methodGet); err != nil {
		t.Fatal(err)
	}
	if first, second := <-limits, <-limits; first != 1 || second != 0 {
		t.Errorf("the first attempt had %d limits, the second %d", first, second)
	}
}

// TestBounceIsNotAskedOfTheLast: a single instance must take what comes.
func TestBounceIsNotAskedOfTheLast(t *testing.T) {
	w := newWorld(t)
	limits := make(chan string, 100)
	w.startReporting(t, "a", func(ctx context.Context, _ string) error {
		if v := metadata.ValueFromIncomingContext(ctx, reports.HeaderLimit); len(v) > 0 {
			limits <- v[0]
		}
		return nil
	})
	conn := w.conn(t)
	for range 20 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	if len(limits) > 0 {
		t.Errorf("it was given a limit of %q", <-limits)
	}
	w.startReporting(t, "b", nil)
	eventually(t, "a limit is given", func() bool {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
		return len(limits) > 0
	})
	if limit := <-limits; limit != "4" { // 1.5 * (0 + 1) + 2, rounded
		t.Errorf("the limit of an idle fleet is %q", limit)
	}
}

func TestHedge(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Hedge: retry.HedgePolicy{Enabled: true, Delay: 20 * time.Millisecond}}
	}))
	var cancelled atomic.Int64
	slow := w.start(t, "slow", nil)
	w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	slow.fail(func(ctx context.Context, _ string) error {
		<-ctx.Done()
		cancelled.Add(1)
		return ctx.Err()
	})
	for range 10 {
		var header metadata.MD
		id, err := call(t.Context(), conn, methodGet, grpc.Header(&header))
		if err != nil || id != "b" {
			t.Fatalf("answered %q, %v", id, err)
		}
	}
	hedged := recorded[client.CallHedged](w.events)
	if len(hedged) < 5 { // a hedge takes its turn as well, so that most calls meet the slow instance
		t.Errorf("only %d calls were hedged", len(hedged))
	}
	for _, e := range hedged {
		if !e.Won || e.After != 20*time.Millisecond {
			t.Errorf("told of %+v", e)
		}
	}
	eventually(t, "the attempts that lost are cancelled", func() bool { return cancelled.Load() == int64(len(hedged)) })

	// One that must not be sent twice is not.
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	before := len(recorded[client.CallHedged](w.events))
	for range 2 {
		_, _ = call(ctx, conn, methodPut) // one of them meets the slow instance
	}
	if got := len(recorded[client.CallHedged](w.events)); got != before {
		t.Error("a call was hedged that is not idempotent")
	}
}

// TestHedgeBudget: hedges are paid for like retries.
func TestHedgeBudget(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRandom, Ejection: outlier.Config{Off: true}, Hedge: retry.HedgePolicy{Enabled: true, Delay: time.Millisecond}}
	}))
	var calls atomic.Int64
	slow := func(ctx context.Context, _ string) error {
		calls.Add(1)
		pause(ctx, 8*time.Millisecond)
		return nil
	}
	w.start(t, "a", nil)
	w.start(t, "b", nil)
	conn := w.conn(t)
	connected(t, conn, 2)
	w.failAll(slow)
	const n = 200
	start := time.Now()
	for range n {
		if _, err := call(t.Context(), conn, methodGet); err != nil {
			t.Fatal(err)
		}
	}
	hedges := float64(len(recorded[client.CallHedged](w.events)))
	allowed := retry.BudgetRatio*n + retry.BudgetMax + retry.BudgetPerSecond*time.Since(start).Seconds()
	if hedges > allowed+1 || hedges < retry.BudgetMax {
		t.Errorf("%v hedges of %d calls, the budget allows %.0f", hedges, n, allowed)
	}
}

func TestConsistentHash(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameConsistentHash, HashHeader: "x-cart"}
	}))
	for _, id := range []string{"a", "b", "c"} {
		w.start(t, id, nil)
	}
	conn := w.conn(t)
	connected(t, conn, 3)
	seen := map[string]bool{}
	for key := range 30 {
		byHeader := metadata.AppendToOutgoingContext(t.Context(), "x-cart", strconv.Itoa(key))
		byContext := client.WithHashKey(t.Context(), strconv.Itoa(key))
		var ids []string
		for _, ctx := range []context.Context{byHeader, byContext, byHeader} {
			id, err := call(ctx, conn, methodGet)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if len(slices.Compact(ids)) != 1 {
			t.Errorf("key %d went to %v", key, ids)
		}
		seen[ids[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("30 keys went to %v", seen)
	}
}

// TestPrecise: a client that has not called for a while asks before it picks.
func TestPrecise(t *testing.T) {
	w := newWorld(t, using(balancer.NamePrecise))
	work := func(ctx context.Context, _ string) error {
		pause(ctx, 20*time.Millisecond)
		return nil
	}
	block := make(chan struct{})
	busy := w.startReporting(t, "busy", work)
	w.startReporting(t, "b", work)
	w.startReporting(t, "c", work)
	conn := w.conn(t)
	for range 10 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	var held atomic.Int64
	busy.fail(func(ctx context.Context, _ string) error {
		held.Add(1)
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil
	})
	direct := w.direct(t, busy.addr)
	done := make(chan struct{}, 3) // below what a bounce begins at
	for range cap(done) {
		go func() {
			_, _ = call(t.Context(), direct, methodPut)
			done <- struct{}{}
		}()
	}
	eventually(t, "the instance is busy", func() bool { return held.Load() == int64(cap(done)) })
	for range 5 {
		pause(t.Context(), balancer.Stale+20*time.Millisecond)
		if id, err := call(t.Context(), conn, methodPut); err != nil || id == "busy" {
			t.Errorf("answered %q, %v", id, err)
		}
	}
	close(block)
	for range cap(done) {
		<-done
	}
}

// TestClassicBreaker: it opens for the whole service, and says so.
func TestClassicBreaker(t *testing.T) {
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Breaker: breaker.Config{Policy: breaker.PolicyClassic, OpenFor: 200 * time.Millisecond}}
	}))
	e := w.start(t, "a", reply(codes.Internal))
	conn := w.conn(t)
	var rejection *client.BreakerError
	for range 2*breaker.DefaultMinCalls + 5 {
		_, err := call(t.Context(), conn, methodPut)
		if be, ok := errors.AsType[*client.BreakerError](err); ok {
			rejection = be
		}
	}
	if rejection == nil || !strings.Contains(rejection.Error(), "open for") || rejection.Rejection.State.Phase != breaker.Open {
		t.Fatalf("the rejection is %v", rejection)
	}
	if got := e.calls.Load(); got > breaker.DefaultMinCalls+2 {
		t.Errorf("%d calls were sent", got)
	}
	e.fail(nil)
	eventually(t, "calls pass again", func() bool {
		_, err := call(t.Context(), conn, methodPut)
		return err == nil
	})
}

// TestSettingsAreHot: what the function for the settings returns counts from the
// next call on, for everything in them.
func TestSettingsAreHot(t *testing.T) {
	var set atomic.Pointer[client.Settings]
	set.Store(&client.Settings{Balancer: balancer.NameRoundRobin})
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings { return *set.Load() }))
	e := w.start(t, "a", nil)
	w.start(t, "b", nil)
	w.start(t, "c", nil)
	conn := w.conn(t)
	connected(t, conn, 3)

	set.Store(&client.Settings{Balancer: balancer.NamePickFirst})
	first, err := call(t.Context(), conn, methodPut)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if id, err := call(t.Context(), conn, methodPut); err != nil || id != first {
			t.Fatalf("pick_first went from %q to %q, %v", first, id, err)
		}
	}

	set.Store(&client.Settings{Balancer: balancer.NameRoundRobin})
	e.fail(reply(codes.Internal))
	for range 60 {
		_, _ = call(t.Context(), conn, methodPut)
	}
	if n := len(recorded[client.InstanceEjected](w.events)); n != 1 {
		t.Fatalf("%d ejections", n)
	}
	set.Store(&client.Settings{Balancer: balancer.NameRoundRobin, Ejection: outlier.Config{Off: true}})
	before, lost := e.calls.Load(), 0
	for range 60 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			lost++
		}
	}
	if got := e.calls.Load() - before; got < 15 || lost < 15 {
		t.Errorf("with ejection off the instance got %d of 60 calls", got)
	}
}
