package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/middleware"
	"plinth.internal/registry"
)

// TestNetRPCCloseEndsEveryConnection: Close waits for no call, wherever its
// connection has got to.
func TestNetRPCCloseEndsEveryConnection(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, w *world, n *client.NetRPC){
		"in use": func(*testing.T, *world, *client.NetRPC) {},
		"given up for its silence": func(t *testing.T, _ *world, n *client.NetRPC) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			if _, err := said(ctx, n, "x"); middleware.Code(err) != codes.DeadlineExceeded {
				t.Errorf("the call that times out: %v", err)
			}
			go func() { _, _ = said(context.Background(), n, "x") }() // over a new connection
			synctest.Wait()
		},
		"to an instance that was withdrawn": func(t *testing.T, w *world, _ *client.NetRPC) {
			t.Helper()
			w.announce(t, registry.Instance{ID: "b", Endpoints: map[string]string{"netrpc": "b:1"}})
			if err := w.registry.Withdraw(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the list has the other one only", func() bool {
				changed := recorded[client.ViewChanged](w.events)
				return len(changed) > 1 && changed[len(changed)-1].Listed == 1
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, client.WithDialer(func(context.Context, string) (net.Conn, error) {
					near, far := net.Pipe()
					go func() { _, _ = io.Copy(io.Discard, far) }() // it never answers
					return near, nil
				}), client.WithSettings(func(string, string) client.Settings {
					return client.Settings{Timeout: time.Hour}
				}))
				w.announce(t, registry.Instance{ID: "a", Endpoints: map[string]string{"netrpc": "a:1"}})
				n := w.netrpc(t)
				failed := make(chan error, 1)
				go func() { _, err := said(context.Background(), n, "x"); failed <- err }()
				synctest.Wait()
				before(t, w, n)
				begun := time.Now()
				if err := w.client.Close(); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took > 0 {
					t.Errorf("Close took %s", took)
				}
				if err := <-failed; middleware.Code(err) != codes.Canceled || !errors.Is(err, client.ErrClosed) {
					t.Errorf("the call in flight: %v", err)
				}
			})
		})
	}
}
