package client_test

import (
	"context"
	"net"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"plinth.internal/client"
	"plinth.internal/registry/static"
)

// pair returns a connection through the whole client and a bare one, to the
// same server over the same kind of pipe.
func pair(tb testing.TB) (full, bare *grpc.ClientConn) {
	tb.Helper()
	lis := bufconn.Listen(1 << 20)
	e := &echo{id: "a", server: grpc.NewServer()}
	e.fail(nil)
	e.server.RegisterService(&echoDesc, e)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = e.server.Serve(lis)
	}()
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }

	reg, err := static.Open(map[string][]string{"echo": {"10.0.0.1:1"}})
	if err != nil {
		tb.Fatal(err)
	}
	c, err := client.New(reg, client.WithDialer(dial))
	if err != nil {
		tb.Fatal(err)
	}
	full, err = c.Conn("echo")
	if err != nil {
		tb.Fatal(err)
	}
	bare, err = grpc.NewClient("passthrough:///x", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = bare.Close()
		_ = c.Close()
		_ = reg.Close()
		e.server.Stop()
		<-served
	})
	return full, bare
}

func BenchmarkUnary(b *testing.B) {
	full, bare := pair(b)
	for _, bench := range []struct {
		name string
		conn *grpc.ClientConn
	}{{"bare", bare}, {"full", full}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := call(context.Background(), bench.conn, methodGet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAllocations holds what the client adds to a call, both sides of the
// connection counted: mostly the deadline, its timer and its header.
func TestAllocations(t *testing.T) {
	full, bare := pair(t)
	perCall := func(conn *grpc.ClientConn) float64 {
		const calls = 1000
		var before, after runtime.MemStats
		for i := range 2 * calls {
			if i == calls { // the first half warms up
				runtime.ReadMemStats(&before)
			}
			if _, err := call(context.Background(), conn, methodGet); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / calls
	}
	const allowed = 14
	if f, b := perCall(full), perCall(bare); f-b > allowed {
		t.Errorf("a call allocates %.1f times, a bare one %.1f times: %.1f more, allowed are %d", f, b, f-b, allowed)
	} else {
		t.Logf("a call allocates %.1f times, a bare one %.1f times", f, b)
	}
}
