package client_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// aTarget registers a resolver of grpc's own, as a mesh does, that finds the
// addresses.
func aTarget(scheme string, found ...*echo) (string, *manual.Resolver) {
	r := manual.NewBuilderWithScheme(scheme)
	r.InitialState(resolved(found...))
	resolver.Register(r)
	return scheme + ":///echo", r
}

func resolved(found ...*echo) resolver.State {
	var s resolver.State
	for _, e := range found {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: e.addr}}})
	}
	return s
}

func to(target string) client.Option {
	return client.WithTargets(func(service string) string {
		if service == "echo" {
			return target
		}
		return ""
	})
}

// TestTarget: a target's own resolver and balancer say where calls go, and the
// rest of the chain is what it always is.
func TestTarget(t *testing.T) {
	a, b := listen(t, "a", "127.0.0.1:0", nil), listen(t, "b", "127.0.0.1:0", nil)
	target, found := aTarget("clienttest-spread", a, b)
	var mu sync.Mutex // a stream's chain has a goroutine of its own
	var calls []middleware.Call
	w := newWorld(t, to(target), client.WithMiddleware(func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			err := next(ctx, call)
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, *call)
			return err
		}
	}))
	w.announce(t, registry.Instance{ID: "registered", Endpoints: map[string]string{"grpc": "127.0.0.1:1"}})
	conn := w.conn(t)
	connected(t, conn, 2)
	calls = nil
	before := a.calls.Load()
	for range 20 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.calls.Load() - before; got != 10 {
		t.Errorf("%d of 20 calls went to one of two instances", got)
	}
	for i := range calls {
		if c := &calls[i]; c.Attempts != 1 || c.Instance != a.addr && c.Instance != b.addr {
			t.Errorf("a call has %d attempts, the last one at %q", c.Attempts, c.Instance)
		}
	}
	if id, err := watch(t.Context(), conn); err != nil || id != "a" && id != "b" {
		t.Errorf("a stream was answered by %q, %v", id, err)
	}
	if got := recorded[client.ViewChanged](w.events); len(got) != 0 {
		t.Errorf("the registry was asked: %+v", got)
	}
	if e := w.explained(t); e.Target != target || e.Why != "over grpc the calls go to "+target+", whose own balancer picks the instance" {
		t.Errorf("%q is explained as: %s", e.Target, e.Why)
	}
	found.UpdateState(resolved(b))
	eventually(t, "the calls go to the other one", func() bool {
		before := a.calls.Load()
		for range 4 {
			if _, err := call(t.Context(), conn, methodGet); err != nil {
				t.Fatal(err)
			}
		}
		return a.calls.Load() == before
	})
}

// TestTargetRetries: a failed attempt is repeated where that is safe and the
// budget allows it, wherever the target's balancer sends it.
func TestTargetRetries(t *testing.T) {
	sick, well := listen(t, "sick", "127.0.0.1:0", reply(codes.Unavailable)), listen(t, "well", "127.0.0.1:0", nil)
	target, _ := aTarget("clienttest-sick", sick, well)
	w := newWorld(t, to(target))
	conn := w.conn(t)
	connected(t, conn, 1)
	eventually(t, "both are connected", func() bool { _, _ = call(t.Context(), conn, methodGet); return sick.calls.Load() > 0 })
	before, retried := sick.calls.Load(), len(recorded[client.CallRetried](w.events))
	for range 6 {
		if _, err := call(t.Context(), conn, methodGet); err != nil {
			t.Errorf("a call that may be repeated: %v", err)
		}
	}
	events := recorded[client.CallRetried](w.events)[retried:]
	if n := int(sick.calls.Load() - before); n == 0 || len(events) != n {
		t.Errorf("%d attempts failed, %d were repeated", n, len(events))
	}
	for _, e := range events {
		if e.Instance != sick.addr || e.Reason != retry.ReasonUnavailable {
			t.Errorf("told of a retry: %+v", e)
		}
	}
	failed := 0
	for range 6 {
		if _, err := call(t.Context(), conn, methodPut); err != nil {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d of 6 calls that may not be repeated failed, want every second one", failed)
	}

	well.fail(reply(codes.Unavailable))
	var rejection *client.BreakerError
	for range 1000 {
		_, err := call(t.Context(), conn, methodPut)
		if be, ok := errors.AsType[*client.BreakerError](err); ok {
			rejection = be
		}
	}
	if rejection == nil {
		t.Error("the breaker held nothing back")
	}
	if sent := sick.calls.Load() + well.calls.Load(); sent > 800 {
		t.Errorf("%d calls went through to a service that refuses all", sent)
	}
}

// TestTargetTrailer: what a server says in its trailer is obeyed, though nobody but
// grpc knows it.
func TestTargetTrailer(t *testing.T) {
	a := listen(t, "a", "127.0.0.1:0", nil)
	target, _ := aTarget("clienttest-trailer", a)
	w := newWorld(t, to(target))
	conn := w.conn(t)
	connected(t, conn, 1)
	for _, tt := range []struct {
		trailers []string
		attempts int64
	}{
		{nil, 3},
		{[]string{middleware.HeaderNoRetry, "1"}, 1},
	} {
		a.fail(reply(codes.Unavailable, tt.trailers...))
		before := a.calls.Load()
		if _, err := call(t.Context(), conn, methodGet); status.Code(err) != codes.Unavailable {
			t.Fatalf("with the trailers %v: %v", tt.trailers, err)
		}
		if got := a.calls.Load() - before; got != tt.attempts {
			t.Errorf("with the trailers %v there are %d attempts, want %d", tt.trailers, got, tt.attempts)
		}
	}
}

// TestTargetDeadline: the total deadline is on the wire and holds.
func TestTargetDeadline(t *testing.T) {
	slow := listen(t, "slow", "127.0.0.1:0", func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	})
	target, _ := aTarget("clienttest-slow", slow)
	w := newWorld(t, to(target), client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Timeout: 200 * time.Millisecond}
	}))
	begun := time.Now()
	_, err := call(t.Context(), w.conn(t), methodGet)
	if took := time.Since(begun); status.Code(err) != codes.DeadlineExceeded || took > 2*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
}

// TestTargetNobody: where nobody can be called, a call fails at once and counts
// as not sent.
func TestTargetNobody(t *testing.T) {
	gone := listen(t, "gone", "127.0.0.1:0", nil)
	gone.server.Stop()
	target, _ := aTarget("clienttest-gone", gone)
	w := newWorld(t, to(target))
	conn := w.conn(t)
	for range 50 { // a breaker would open if these counted
		_, err := call(t.Context(), conn, methodGet)
		if _, held := errors.AsType[*client.BreakerError](err); held || status.Code(err) != codes.Unavailable {
			t.Fatalf("error is %v", err)
		}
	}
	if got := recorded[client.CallRetried](w.events); len(got) != 0 {
		t.Errorf("retried although nobody can be called: %+v", got[0])
	}
}

// TestTargetSocket: a socket of the file system is a target, too.
func TestTargetSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{id: "socket", server: grpc.NewServer()}
	e.fail(nil)
	e.server.RegisterService(&echoDesc, e)
	served := make(chan struct{})
	go func() { defer close(served); _ = e.server.Serve(lis) }()
	t.Cleanup(func() { e.server.Stop(); <-served })
	w := newWorld(t, to("unix://"+path))
	if id, err := call(t.Context(), w.conn(t), methodPut); err != nil || id != "socket" {
		t.Errorf("answered by %q, %v", id, err)
	}
}

func TestTargetErrors(t *testing.T) {
	for target, want := range map[string]string{
		"xds:///echo":    `connect to service "echo": use target "xds:///echo": xDS is not linked into this program: add import _ "plinth.internal/client/xds"`,
		"echo.example":   `use target "echo.example": want a scheme`,
		"localhost:9000": `use target "localhost:9000": no resolver for the scheme "localhost" is registered with grpc; a plain address is written dns:///host:port`,
	} {
		w := newWorld(t, to(target))
		if _, err := w.client.Conn("echo"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", target, err, want)
		}
		if _, err := w.client.Conn("another"); err != nil {
			t.Errorf("a service without a target: %v", err)
		}
	}
}

// TestTargetCredentials: they are made from the client's own, for targets only.
func TestTargetCredentials(t *testing.T) {
	a := listen(t, "a", "127.0.0.1:0", nil)
	target, _ := aTarget("clienttest-creds", a)
	var asked []string
	w := newWorld(t, to(target), client.WithTargetCredentials(func(own credentials.TransportCredentials) (credentials.TransportCredentials, error) {
		asked = append(asked, own.Info().SecurityProtocol)
		if len(asked) > 1 {
			return nil, errors.New("no more")
		}
		return own, nil
	}))
	if _, err := call(t.Context(), w.conn(t), methodPut); err != nil {
		t.Error(err)
	}
	if _, err := w.client.Conn("another"); err != nil {
		t.Error(err)
	}
	_, err := w.client.Conn("echo", grpc.WithUserAgent("x"))
	if want := `connect to service "echo": make credentials for target "` + target + `": no more`; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if !slices.Equal(asked, []string{"insecure", "insecure"}) {
		t.Errorf("made from %q", asked)
	}
}
