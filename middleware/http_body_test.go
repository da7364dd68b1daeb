package middleware_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

type roundTripFunc func(r *http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowServer answers at once, and sends one byte every so often until the request
// ends, or until the body has as many as it is to have.
func slowServer(every time.Duration, size int) roundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		in, out := io.Pipe()
		go func() {
			for range size {
				if !sleep(r.Context(), every) {
					break
				}
				if _, err := out.Write([]byte("x")); err != nil {
					return
				}
			}
			_ = out.CloseWithError(r.Context().Err())
		}()
		context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(r.Context().Err()) })
		return &http.Response{StatusCode: http.StatusOK, Body: in}, nil
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// TestRoundTripperDeadlineInTheBody: it is the server's when the caller waits for the
// server, and the caller's when nobody was reading.
func TestRoundTripperDeadlineInTheBody(t *testing.T) {
	for _, tc := range []struct {
		name  string
		base  roundTripFunc
		read  func(body io.ReadCloser) error
		want  codes.Code
		fails error
	}{
		{"the server stalls", slowServer(time.Hour, 1), func(b io.ReadCloser) error {
			_, err := io.ReadAll(b)
			return err
		}, codes.DeadlineExceeded, context.DeadlineExceeded},
		{"the server is slow", slowServer(300*time.Millisecond, 100), func(b io.ReadCloser) error {
			_, err := io.ReadAll(b)
			return err
		}, codes.DeadlineExceeded, context.DeadlineExceeded},
		{"and is asked once more", slowServer(time.Hour, 1), func(b io.ReadCloser) error {
			_, _ = io.ReadAll(b)
			_, err := b.Read(make([]byte, 1))
			return err
		}, codes.DeadlineExceeded, context.DeadlineExceeded},
		{"the caller reads too late", slowServer(0, 100), func(b io.ReadCloser) error {
			<-time.After(2 * time.Second)
			_, err := io.ReadAll(b)
			return err
		}, codes.Canceled, context.DeadlineExceeded},
		{"the caller reads slowly", slowServer(0, 100), func(b io.ReadCloser) error {
			for {
				if _, err := b.Read(make([]byte, 1)); err != nil {
					return err
				}
				<-time.After(300 * time.Millisecond)
			}
		}, codes.Canceled, context.DeadlineExceeded},
		{"the caller forgets the rest", slowServer(0, 100), func(b io.ReadCloser) error {
			_, err := b.Read(make([]byte, 1))
			<-time.After(2 * time.Second)
			return err
		}, codes.Canceled, nil},
		{"all is read in time", slowServer(time.Millisecond, 100), func(b io.ReadCloser) error {
			_, err := io.ReadAll(b)
			<-time.After(2 * time.Second)
			return err
		}, codes.OK, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				w := newWatcher()
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://web/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := middleware.RoundTripper("web", tc.base, w.middleware).RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				if err := tc.read(resp.Body); !errors.Is(err, tc.fails) {
					t.Errorf("the caller got %v, want %v", err, tc.fails)
				}
				if e := w.next(t); middleware.Code(e.err) != tc.want {
					t.Errorf("the chain saw %v, want the code %v", e.err, tc.want)
				}
				_ = resp.Body.Close()
			})
		})
	}
}
