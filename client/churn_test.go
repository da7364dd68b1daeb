package client_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/subset"
	"plinth.internal/registry"
)

// TestChurn is F29: a thousand instances, a tenth of them replaced again and
// again. One server stands in for all of them; what counts is who is dialled.
func TestChurn(t *testing.T) {
	const instances, replaced, rounds = 1000, 100, 3
	lis := bufconn.Listen(1 << 16)
	e := &echo{id: "all", server: grpc.NewServer(), health: health.NewServer()}
	e.fail(nil)
	e.server.RegisterService(&echoDesc, e)
	healthpb.RegisterHealthServer(e.server, e.health)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = e.server.Serve(lis)
	}()
	t.Cleanup(func() {
		e.server.Stop()
		<-served
	})

	var mu sync.Mutex
	dials := map[string]int{}
	open := 0
	everybody := client.WithSettings(func(string, string) client.Settings {
		return client.Settings{
			Timeout:  time.Minute, // a thousand handshakes take what time they take
			Balancer: balancer.NameRoundRobin, Subset: subset.Config{Size: -1},
		}
	})
	w := newWorld(t, everybody, client.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := lis.DialContext(ctx)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		dials[addr]++
		open++
		return &countedConn{Conn: conn, closed: sync.OnceFunc(func() {
			mu.Lock()
			defer mu.Unlock()
			open--
		})}, nil
	}))
	addr := func(i int) string { return fmt.Sprintf("10.%d.%d.1:9000", i/256, i%256) }
	put := func(i int, state registry.State) {
		w.put(t, registry.Instance{ID: fmt.Sprint("i-", i), Endpoints: map[string]string{"grpc": addr(i)}, State: state})
	}
	for i := range instances {
		put(i, registry.Up)
	}
	conn := w.conn(t)
	settled := func(first int) {
		t.Helper()
		eventually(t, "all instances are connected and no others", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := first; i < first+instances; i++ {
				if dials[addr(i)] == 0 {
					return false
				}
			}
			return open == instances
		})
	}
	settled(0)
	if _, err := call(t.Context(), conn, methodPut); err != nil {
		t.Fatal(err)
	}
	before := steadyGoroutines(t)
	begun := time.Now()
	for round := range rounds {
		first := round * replaced
		for i := first; i < first+replaced; i++ { // in good order: draining, then gone
			put(i, registry.Draining)
			w.lapse(fmt.Sprint("i-", i))
			put(instances+i, registry.Up)
		}
		settled(first + replaced)
		for range 100 {
			if _, err := call(t.Context(), conn, methodPut); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d rounds took %s", rounds, time.Since(begun))
	for i := range instances + rounds*replaced {
		if n := dials[addr(i)]; n != 1 {
			t.Errorf("instance %d was dialled %d times, want once", i, n)
		}
	}
	if after := steadyGoroutines(t); after > before+before/50 {
		t.Errorf("there are %d goroutines after the churn, %d before", after, before)
	}
}

// steadyGoroutines is the number of goroutines once it no longer changes.
func steadyGoroutines(t *testing.T) int {
	t.Helper()
	n, row := 0, 0
	eventually(t, "no more goroutines start or end", func() bool {
		if now := runtime.NumGoroutine(); now == n {
			row++
		} else {
			n, row = now, 0
		}
		return row > 100
	})
	return n
}

type countedConn struct {
	net.Conn

	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
