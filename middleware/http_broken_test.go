package middleware_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"plinth.internal/middleware"
)

// TestRoundTripperErrorBody: an error response whose body breaks off or stalls keeps
// its status, for the chain and for the caller, and what has come of its body.
func TestRoundTripperErrorBody(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		end    func(r *http.Request) // of the handler, after half of the body
		want   error
	}{
		{"it breaks", 404, func(*http.Request) { panic(http.ErrAbortHandler) }, io.ErrUnexpectedEOF},
		{"it stalls", 503, func(r *http.Request) { <-r.Context().Done() }, context.DeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWatcher()
			url, c := client(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "100")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				tc.end(r)
			}, w.middleware, func(next middleware.Handler) middleware.Handler {
				return func(ctx context.Context, call *middleware.Call) error {
					ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
					defer cancel()
					return next(ctx, call)
				}
			})
			status, _, body, err := get(t, c, url)
			if status != tc.status || body != "half" || !errors.Is(err, tc.want) {
				t.Errorf("got %d, %q and %v, want %d, half of the body and %v", status, body, err, tc.status, tc.want)
			}
			if e := w.next(t); middleware.HTTPStatusOf(e.err) != tc.status {
				t.Errorf("the chain saw %v, want the status %d", e.err, tc.status)
			}
		})
	}
}

// TestRoundTripperErrorBodyAgain: what has come of the first attempt is gone with
// the second one.
func TestRoundTripperErrorBodyAgain(t *testing.T) {
	var later atomic.Bool
	url, c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		if later.Swap(true) {
			_, _ = io.WriteString(w, "whole")
			return
		}
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, again(2))
	if status, _, body, err := get(t, c, url); status != http.StatusOK || body != "whole" || err != nil {
		t.Errorf("got %d, %q and %v", status, body, err)
	}
}
