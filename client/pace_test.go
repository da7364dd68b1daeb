package client_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/registry"
)

// TestReconnectIsSpread: many clients lose the same instance. While they have
// another one to call they come back one after the other.
func TestReconnectIsSpread(t *testing.T) {
	const clients = 60
	gone := listen(t, "gone", "127.0.0.1:0", nil)
	other := listen(t, "other", "127.0.0.1:0", nil)
	var mu sync.Mutex
	var dials []time.Time // to the one that is gone
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == gone.addr {
			mu.Lock()
			dials = append(dials, time.Now())
			mu.Unlock()
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	w := newWorld(t)
	for id, e := range map[string]*echo{"gone": gone, "other": other} {
		w.announce(t, registry.Instance{ID: id, Endpoints: map[string]string{"grpc": e.addr}})
	}
	for range clients {
		c, err := client.New(w.registry, client.WithDialer(dial), client.WithSettings(inTurn))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conn, err := c.Conn("echo")
		if err != nil {
			t.Fatal(err)
		}
		connected(t, conn, 2)
	}
	mu.Lock()
	dials = nil
	mu.Unlock()
	killed := time.Now()
	gone.server.Stop()
	pause(t.Context(), 3*time.Second)

	mu.Lock()
	defer mu.Unlock()
	var again []time.Duration // each client tries once at once, and is refused
	for _, at := range dials {
		if d := at.Sub(killed); d > time.Second {
			again = append(again, d)
		}
	}
	slices.Sort(again)
	// Of the second attempts, spread over 7 s from the refusal on, these two
	// seconds have about two sevenths.
	if n := len(again); n < clients/12 || n > clients {
		t.Errorf("%d attempts between 1 and 3 s after the connections were lost, by %d clients", n, clients)
	}
	for i := range again {
		n := 0
		for _, d := range again[i:] {
			if d-again[i] < 100*time.Millisecond {
				n++
			}
		}
		if n > clients/4 {
			t.Fatalf("%d of %d clients connected within 100 ms", n, clients)
		}
	}
}
