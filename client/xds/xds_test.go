package xds_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/client/xds"
	"plinth.internal/middleware"
	"plinth.internal/middleware/tracing"
)

// TestMeshPicks: the control plane's list and policy decide, and the trace
// arrives.
func TestMeshPicks(t *testing.T) {
	p := startPlane(t, "orders")
	a, b := startInstance(t), startInstance(t)
	p.say(t, a, b)
	var mu sync.Mutex
	sent := map[string]bool{}
	conn := connect(t, client.WithMiddleware(tracing.Client(newTracer(t)), func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			err := next(ctx, call)
			mu.Lock()
			defer mu.Unlock()
			sent[call.TraceID] = true
			if call.Attempts != 1 || call.Instance != a.addr && call.Instance != b.addr {
				t.Errorf("%d attempts, the last one at %q", call.Attempts, call.Instance)
			}
			return err
		}
	}))
	reached(t, conn, a, b)
	for range 20 {
		id, err := get(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if len(id) != 32 || !sent[id] {
			t.Errorf("the trace %q arrived, which was not sent", id)
		}
	}
	before := a.calls.Load()
	for range 20 {
		if _, err := get(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.calls.Load() - before; got != 10 {
		t.Errorf("one of two instances got %d of 20 calls", got)
	}
}

// load makes calls from several goroutines until it is stopped, and returns what
// failed.
func load(ctx context.Context, conn *grpc.ClientConn) (stop func() (made int64, failed []error)) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var made atomic.Int64
	var mu sync.Mutex
	var failed []error
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				made.Add(1)
				if _, err := get(ctx, conn); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	return func() (int64, []error) {
		close(done)
		wg.Wait()
		return made.Load(), failed
	}
}

// grown waits until an instance has had n calls more.
func grown(t *testing.T, i *instance, n int64) {
	t.Helper()
	until := i.calls.Load() + n
	for deadline := time.Now().Add(20 * time.Second); i.calls.Load() < until; {
		if time.Now().After(deadline) {
			t.Fatal("the calls have stopped")
		}
		pause(t, time.Millisecond)
	}
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestMeshRemoves: an instance leaves the mesh's list under load and stops then.
// No call is lost, although none may be repeated.
func TestMeshRemoves(t *testing.T) {
	p := startPlane(t, "orders")
	stays, leaves := startInstance(t), startInstance(t)
	p.say(t, stays, leaves)
	conn := connect(t)
	reached(t, conn, stays, leaves)
	stop := load(t.Context(), conn)
	grown(t, leaves, 200)
	p.say(t, stays)
	for deadline := time.Now().Add(20 * time.Second); ; {
		before := leaves.calls.Load()
		grown(t, stays, 200)
		if leaves.calls.Load() == before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the instance that has left is still called")
		}
	}
	leaves.server.GracefulStop()
	grown(t, stays, 200)
	if made, failed := stop(); len(failed) > 0 {
		t.Errorf("%d of %d calls were lost, the first one: %v", len(failed), made, failed[0])
	}
}

// TestMeshKill: an instance dies that the mesh still lists. No call is lost that
// may be repeated.
func TestMeshKill(t *testing.T) {
	p := startPlane(t, "orders")
	stays, dies := startInstance(t), startInstance(t)
	p.say(t, stays, dies)
	conn := connect(t)
	reached(t, conn, stays, dies)
	stop := load(middleware.WithIdempotency(t.Context(), middleware.Idempotent), conn)
	grown(t, dies, 200)
	dies.server.Stop()
	grown(t, stays, 500)
	if made, failed := stop(); len(failed) > 0 {
		t.Errorf("%d of %d calls were lost, the first one: %v", len(failed), made, failed[0])
	}
}

// TestMeshPlaneGone: without the control plane the list that was good stays.
func TestMeshPlaneGone(t *testing.T) {
	p := startPlane(t, "orders")
	a, b := startInstance(t), startInstance(t)
	p.say(t, a, b)
	conn := connect(t)
	reached(t, conn, a, b)
	p.stop()
	before := b.calls.Load()
	for range 200 {
		if _, err := get(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.calls.Load() - before; got != 100 {
		t.Errorf("one of two instances got %d of 200 calls", got)
	}
}

// TestMeshDeadline: of our total deadline and the mesh's route timeout the
// shorter one ends a call.
func TestMeshDeadline(t *testing.T) {
	for name, tc := range map[string]struct {
		ours time.Duration
		mesh string
	}{
		"ours":       {300 * time.Millisecond, ""},
		"the mesh's": {20 * time.Second, "0.3s"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlane(t, "orders")
			p.timeout = tc.mesh
			i := startInstance(t)
			p.say(t, i)
			conn := connect(t, client.WithSettings(func(string, string) client.Settings { return client.Settings{Timeout: tc.ours} }))
			reached(t, conn, i)
			hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			i.handler.Store(&hang)
			begun := time.Now()
			_, err := get(t.Context(), conn)
			if took := time.Since(begun); status.Code(err) != codes.DeadlineExceeded || took > 3*time.Second {
				t.Errorf("after %s: %v", took, err)
			}
		})
	}
}

// TestMeshBreaker: the breaker holds calls back from a service that refuses all,
// wherever they would go.
func TestMeshBreaker(t *testing.T) {
	p := startPlane(t, "orders")
	i := startInstance(t)
	p.say(t, i)
	conn := connect(t)
	reached(t, conn, i)
	refuse := func(context.Context) error { return status.Error(codes.Unavailable, "as the test wants it") }
	i.handler.Store(&refuse)
	held := 0
	for range 500 {
		_, err := get(t.Context(), conn)
		if _, ok := errors.AsType[*client.BreakerError](err); ok {
			held++
		}
	}
	if held < 100 {
		t.Errorf("%d of 500 calls were held back", held)
	}
}

// TestMeshCredentials: where the mesh says so, connections have mutual TLS with
// its certificates.
func TestMeshCredentials(t *testing.T) {
	config, err := serverTLS()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		identity string
		opts     []client.Option
		want     string // in the error
	}{
		"its own identity": {meshIdentity, []client.Option{xds.WithCredentials()}, ""},
		"another identity": {"spiffe://mesh.test/billing", []client.Option{xds.WithCredentials()}, "do not match"},
		"not switched on":  {meshIdentity, nil, "error reading server preface"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPlane(t, "orders")
			p.socket = mutualTLS(tc.identity)
			i := startInstance(t, grpc.Creds(credentials.NewTLS(config)))
			p.say(t, i)
			var from peer.Peer
			_, err := get(t.Context(), connect(t, tc.opts...), grpc.Peer(&from))
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error is %v, want %q in it", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, ok := from.AuthInfo.(credentials.TLSInfo); !ok || len(info.State.PeerCertificates) == 0 || info.State.PeerCertificates[0].URIs[0].String() != meshIdentity {
				t.Errorf("the connection has %+v", from.AuthInfo)
			}
		})
	}
}

// TestMeshWithoutCredentials: where the mesh says nothing, the client's own
// settings count, also with WithCredentials.
func TestMeshWithoutCredentials(t *testing.T) {
	p := startPlane(t, "orders")
	i := startInstance(t)
	p.say(t, i)
	reached(t, connect(t, xds.WithCredentials()), i)
}

// TestNobodyElsePays: no package of the root module builds grpc's xDS.
func TestNobodyElsePays(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("only %d packages are listed", len(packages))
	}
	for _, p := range packages {
		if strings.HasPrefix(p, "google.golang.org/grpc/xds") || strings.HasPrefix(p, "google.golang.org/grpc/internal/xds") ||
			strings.HasPrefix(p, "github.com/envoyproxy/") || strings.HasPrefix(p, "github.com/cncf/") {
			t.Errorf("the root module builds %s", p)
		}
	}
}
