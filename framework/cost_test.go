package framework_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"plinth.internal/framework"
	"plinth.internal/registry/static"
)

// What a call may allocate beyond one of grpc-go with default options, both sides
// together. Bench holds the same for two processes, and has the targets.
const (
	maxAddedAllocs = 22
	maxAddedBytes  = 4000
)

// TestCost holds what the whole framework adds to a call. It does not measure
// times, which nobody can hold.
func TestCost(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates as well")
	}
	whole, bare := costOf(t, dialWhole(t)), costOf(t, dialBare(t))
	allocs, bytes := whole.allocs-bare.allocs, whole.bytes-bare.bytes
	t.Logf("a call allocates %.1f times and %.0f bytes more than a bare one with %.1f and %.0f", allocs, bytes, bare.allocs, bare.bytes)
	if allocs > maxAddedAllocs {
		t.Errorf("a call allocates %.1f times more than a bare one, want at most %d", allocs, maxAddedAllocs)
	}
	if bytes > maxAddedBytes {
		t.Errorf("a call allocates %.0f bytes more than a bare one, want at most %d", bytes, maxAddedBytes)
	}
}

type cost struct{ allocs, bytes float64 }

// costOf is the least of some tries: what runs in the background counts as well.
func costOf(t *testing.T, cc grpc.ClientConnInterface) cost {
	t.Helper()
	const calls, tries = 500, 4
	var least cost
	for try := range tries {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			if _, err := say(t.Context(), cc, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		c := cost{float64(after.Mallocs-before.Mallocs) / calls, float64(after.TotalAlloc-before.TotalAlloc) / calls}
		switch try {
		case 0: // warms up
		case 1:
			least = c
		default:
			least = cost{min(least.allocs, c.allocs), min(least.bytes, c.bytes)}
		}
	}
	return least
}

func greet(context.Context, string) (string, error) { return "hello", nil }

// dialWhole connects two apps over TCP.
func dialWhole(t *testing.T) grpc.ClientConnInterface {
	t.Helper()
	opts := func(more ...framework.Option) []framework.Option {
		return append(more, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(io.Discard),
			framework.WithSetting("telemetry.trace.sample", "0"), framework.WithSetting("server.admin.addr", ""))
	}
	callee := run(t, "echo", func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&echoDesc, echo{say: greet})
		return nil
	}, opts(framework.WithSetting("server.grpc.addr", "127.0.0.1:0"))...)

	reg, err := static.Open(map[string][]string{"echo": {callee.Endpoints()["grpc"]}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	var conn *grpc.ClientConn
	run(t, "caller", func(_ context.Context, s *framework.Service) (err error) {
		conn, err = s.Client("echo")
		return err
	}, opts(framework.WithRegistry(reg), framework.WithSetting("server.grpc.addr", ""))...)
	return conn
}

// dialBare is the same with nothing but grpc-go.
func dialBare(t *testing.T) grpc.ClientConnInterface {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&echoDesc, echo{say: greet})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		<-served
	})
	return conn
}

// run runs an app until the end of the test.
func run(t *testing.T, name string, setup framework.Setup, opts ...framework.Option) *framework.App {
	t.Helper()
	app, err := framework.New(name, setup, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run %s: %v", name, err)
		}
	})
	select {
	case <-app.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("run %s: it ended before it was ready: %v", name, err)
	}
	return app
}
