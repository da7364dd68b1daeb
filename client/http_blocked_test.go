package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/middleware"
)

// mute is a body that says one thing, and the next one when it is released. It
// does not react to being closed.
type mute struct {
	release chan struct{}
	said    atomic.Bool
	reading atomic.Bool
	closed  chan bool // whether it was being read then
}

func (m *mute) Read(p []byte) (int, error) {
	if !m.said.Swap(true) {
		return copy(p, "x"), nil
	}
	m.reading.Store(true)
	defer m.reading.Store(false)
	<-m.release
	return 0, io.EOF
}

func (m *mute) Close() error {
	m.closed <- m.reading.Load()
	return nil
}

// TestHTTPDeadlineWhileBodyBlocks: a call ends at its deadline also where the
// caller's own body has nothing to say. The body is closed when it can be.
func TestHTTPDeadlineWhileBodyBlocks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		handle func(r *http.Request, end <-chan struct{})
		again  bool // the body can be had again
	}{
		{"the server reads", func(r *http.Request, _ <-chan struct{}) { _, _ = io.Copy(io.Discard, r.Body) }, false},
		{"the server does not read", func(_ *http.Request, end <-chan struct{}) { <-end }, false},
		{"the server hangs up", func(*http.Request, <-chan struct{}) { panic(http.ErrAbortHandler) }, false},
		{"a body that can be had again", func(_ *http.Request, end <-chan struct{}) { <-end }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, client.WithSettings(func(string, string) client.Settings {
				return client.Settings{Timeout: 200 * time.Millisecond}
			}))
			end := make(chan struct{})
			w.web(t, "a", func(_ http.ResponseWriter, r *http.Request) { tt.handle(r, end) })
			defer close(end)
			h := w.client.HTTP("echo")
			body := &mute{release: make(chan struct{}), closed: make(chan bool, 10)}
			failed := make(chan error, 1)
			go func() {
				r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://echo/", body)
				if err != nil {
					failed <- err
					return
				}
				if tt.again {
					r.GetBody = func() (io.ReadCloser, error) { return body, nil }
				}
				resp, err := h.Do(r)
				failed <- drain(resp, err)
			}()
			select {
			case err := <-failed:
				if !errors.Is(err, context.DeadlineExceeded) || middleware.Code(err) != codes.DeadlineExceeded {
					t.Errorf("error is %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the call outlives its deadline")
			}
			select {
			case <-body.closed:
				t.Error("the body is closed while it is read")
			default:
			}
			close(body.release)
			select {
			case reading := <-body.closed:
				if reading {
					t.Error("the body is closed while it is read")
				}
			case <-time.After(10 * time.Second):
				t.Error("the body is not closed")
			}
		})
	}
}
