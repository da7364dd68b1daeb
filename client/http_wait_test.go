package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/client"
	"plinth.internal/client/breaker"
)

// TestHTTPWaitingIsNotSent: a request that has got no connection is held against
// nobody, and says what it has waited for.
func TestHTTPWaitingIsNotSent(t *testing.T) {
	t.Parallel()
	set := client.Settings{Timeout: 30 * time.Second, MaxConnections: 1, Breaker: breaker.Config{Policy: breaker.PolicyClassic}}
	w, current := httpSettings(t, set)
	limit := func(d time.Duration) {
		next := set
		next.Timeout = d
		current.Store(&next)
	}
	var handled atomic.Int64
	w.pooled(t, "a", func(rw http.ResponseWriter, r *http.Request) {
		handled.Add(1)
		if r.URL.Path != "/hold" {
			return
		}
		rw.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	})
	h := w.client.HTTP("echo")
	webConnected(t, h, 1)
	holding, err := get(t, h, "http://echo/hold")
	if err != nil {
		t.Fatal(err)
	}
	before := handled.Load()
	limit(100 * time.Millisecond)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, _, err := text(t, h, http.MethodGet, nil)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waited for a connection: all are in use, and clients.echo.http.max_connections, client.Settings.MaxConnections in code, allows 1 connections") {
				t.Errorf("a request without a connection: %v", err)
			}
		})
	}
	wg.Wait()
	if n := handled.Load() - before; n != 0 {
		t.Fatalf("%d were sent", n)
	}
	if i := w.explained(t).Instances[0]; i.Failures != 0 || i.InFlight != 1 {
		t.Errorf("%d failures were counted, %d are in flight", i.Failures, i.InFlight)
	}
	_ = holding.Body.Close()
	limit(30 * time.Second)
	for range 20 {
		if status, _, err := text(t, h, http.MethodGet, nil); err != nil || status != http.StatusOK {
			t.Fatalf("once there is a connection: status %d, %v", status, err)
		}
	}
}

// TestHTTPDialHangs: a host that does not even refuse is held responsible.
func TestHTTPDialHangs(t *testing.T) {
	t.Parallel()
	var hangs atomic.Bool
	w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
		return client.Settings{Timeout: 100 * time.Millisecond, MaxConnections: 1000}
	}), client.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		if hangs.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}))
	w.web(t, "a", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "close")
		_, _ = io.WriteString(rw, "a")
	})
	h := w.client.HTTP("echo")
	webConnected(t, h, 1)
	hangs.Store(true)
	for range 10 {
		if _, _, err := text(t, h, http.MethodGet, nil); err == nil || strings.Contains(err.Error(), "max_connections") {
			t.Fatalf("a request without a connection: %v", err)
		}
	}
	if i := w.explained(t).Instances[0]; i.Failures == 0 {
		t.Errorf("of %d calls none failed", i.Calls)
	}
}
