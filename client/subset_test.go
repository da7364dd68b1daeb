package client_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/subset"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// crowd is many instances for which one server in memory stands in, and who is
// connected to them.
type crowd struct {
	mu   sync.Mutex
	open map[string]int // connections by address
}

func (c *crowd) connected() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var addrs []string
	for addr, n := range c.open {
		if n > 0 {
			addrs = append(addrs, addr)
		}
	}
	return slices.Sorted(slices.Values(addrs))
}

// dialer connects to the server, whatever the address is.
func (c *crowd) dialer(lis *bufconn.Listener) client.Option {
	return client.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := lis.DialContext(ctx)
		if err != nil {
			return nil, err
		}
		c.count(addr, 1)
		return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { c.count(addr, -1) })}, nil
	})
}

func (c *crowd) count(addr string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[addr] += n
}

func enter(t *testing.T, w *world, endpoint string, n int) {
	t.Helper()
	for i := range n {
		w.put(t, registry.Instance{ID: fmt.Sprintf("i-%02d", i), Endpoints: map[string]string{endpoint: fmt.Sprintf("10.0.0.%d:9000", i)}})
	}
}

// serveEcho answers gRPC on a listener until the test ends.
func serveEcho(t *testing.T, lis net.Listener) {
	t.Helper()
	e := &echo{id: "all", server: grpc.NewServer(), health: health.NewServer()}
	e.fail(nil)
	e.server.RegisterService(&echoDesc, e)
	healthpb.RegisterHealthServer(e.server, e.health)
	var served sync.WaitGroup
	served.Go(func() { _ = e.server.Serve(lis) })
	t.Cleanup(func() {
		e.server.Stop()
		served.Wait()
	})
}

// TestSubset has sixty instances, of which a client keeps to twenty, until it is
// told to use them all.
func TestSubset(t *testing.T) {
	const instances = 60
	lis := bufconn.Listen(1 << 16)
	serveEcho(t, lis)
	c := &crowd{open: map[string]int{}}
	var size atomic.Int64
	settings := client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Balancer: balancer.NameRoundRobin, Subset: subset.Config{Size: int(size.Load())}}
	})
	w := newWorld(t, settings, c.dialer(lis), client.WithID("orders/web-17"))
	enter(t, w, "grpc", instances)
	conn := w.conn(t)
	calls := func() {
		t.Helper()
		for range 3 * instances {
			if _, err := call(t.Context(), conn, methodPut, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "twenty instances are connected", func() bool { return len(c.connected()) == subset.DefaultSize })
	calls()
	mine := c.connected()
	if len(mine) != subset.DefaultSize {
		t.Fatalf("after calls %d instances are connected", len(mine))
	}

	// One of them goes for good: one takes its place.
	gone := mine[7]
	for i := range instances {
		if addr := fmt.Sprintf("10.0.0.%d:9000", i); addr == gone {
			id := fmt.Sprintf("i-%02d", i)
			w.put(t, registry.Instance{ID: id, Endpoints: map[string]string{"grpc": addr}, State: registry.Draining})
			w.lapse(id)
		}
	}
	eventually(t, "another one has taken its place", func() bool {
		now := c.connected()
		return len(now) == subset.DefaultSize && !slices.Contains(now, gone)
	})
	same := 0
	for _, addr := range c.connected() {
		if slices.Contains(mine, addr) {
			same++
		}
	}
	if same != subset.DefaultSize-1 {
		t.Errorf("%d of %d connections were kept, want all but one", same, subset.DefaultSize)
	}

	size.Store(-1)
	eventually(t, "all instances are connected", func() bool {
		calls()
		return len(c.connected()) == instances-1
	})
	size.Store(10)
	eventually(t, "ten instances are connected", func() bool {
		calls()
		return len(c.connected()) == 10
	})
}

// TestSubsetIsStable: a client that is started again connects to the same
// instances, another one to others.
func TestSubsetIsStable(t *testing.T) {
	lis := bufconn.Listen(1 << 16)
	serveEcho(t, lis)
	store := memory.NewStore()
	reach := func(id string) []string {
		c := &crowd{open: map[string]int{}}
		w := openWorld(t, store, nil, c.dialer(lis), client.WithID(id))
		enter(t, w, "grpc", 60)
		w.conn(t)
		eventually(t, "twenty instances are connected", func() bool { return len(c.connected()) == subset.DefaultSize })
		return c.connected()
	}
	first, again, other := reach("orders/web-17"), reach("orders/web-17"), reach("orders/web-18")
	if !slices.Equal(first, again) {
		t.Errorf("the same client has %v, then %v", first, again)
	}
	if slices.Equal(first, other) {
		t.Error("another client has the same instances")
	}
}

// TestSubsetOverHTTP: the other transports keep to a subset as well.
func TestSubsetOverHTTP(t *testing.T) {
	lis := bufconn.Listen(1 << 16)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
	})
	c := &crowd{open: map[string]int{}}
	w := newWorld(t, c.dialer(lis))
	enter(t, w, "http", 60)
	h := w.client.HTTP("echo")
	for range 200 {
		if status, _, err := text(t, h, http.MethodGet, nil); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
	}
	if n := len(c.connected()); n != subset.DefaultSize {
		t.Errorf("%d instances are connected", n)
	}
}

// TestZonesEndToEnd: calls stay in the client's own zone.
func TestZonesEndToEnd(t *testing.T) {
	w := newWorld(t, client.WithZone("a"), client.WithSettings(func(string, string) client.Settings { return client.Settings{} }))
	zones := map[string]string{}
	for i := range 6 {
		e := listen(t, fmt.Sprint("i-", i), "127.0.0.1:0", nil)
		zones[e.id] = string(rune('a' + i%3))
		w.put(t, registry.Instance{ID: e.id, Zone: zones[e.id], Endpoints: map[string]string{"grpc": e.addr}})
	}
	conn := w.conn(t)
	eventually(t, "all are connected", func() bool {
		ready := 0
		for _, s := range w.client.Explain() {
			for _, inst := range s.Instances {
				if inst.Connection.Health == "serving" {
					ready++
				}
			}
		}
		return ready == len(zones)
	})
	counts := map[string]int{}
	for range 1000 {
		id, err := call(t.Context(), conn, methodPut)
		if err != nil {
			t.Fatal(err)
		}
		counts[zones[id]]++
	}
	if counts["a"] < 700 {
		t.Errorf("calls by zone: %v, want most of them in a", counts)
	}
}
