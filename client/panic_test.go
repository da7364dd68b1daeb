package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/middleware"
)

// TestPanicOfMiddleware: where the chain of a call has a goroutine of its own a
// middleware that panics ends neither the process nor, once the caller has its
// answer, the call.
func TestPanicOfMiddleware(t *testing.T) {
	late := false
	panics := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			call.TraceID = "4bf92f35"
			if late {
				if err := next(ctx, call); err != nil {
					return err
				}
			}
			panic("secret")
		}
	}
	for method, do := range map[string]func(*testing.T, *world) error{
		http.MethodGet: func(t *testing.T, w *world) error {
			t.Helper()
			_, _, err := text(t, w.client.HTTP("echo"), http.MethodGet, nil)
			return err
		},
		"Watch": func(t *testing.T, w *world) error {
			t.Helper()
			return watched(t.Context(), w.conn(t))
		},
	} {
		for _, late = range []bool{false, true} {
			t.Run(fmt.Sprintf("%s late %v", method, late), func(t *testing.T) {
				seen := make(chan error, 1)
				around := func(next middleware.Handler) middleware.Handler {
					return func(ctx context.Context, call *middleware.Call) error {
						err := next(ctx, call)
						seen <- err
						return err
					}
				}
				w := newWorld(t, client.WithMiddleware(around, nil, panics))
				if method == http.MethodGet {
					w.web(t, "a", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
				} else {
					w.start(t, "a", nil)
				}
				err := do(t, w)
				if late && err != nil || !late && (middleware.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "panicked")) {
					t.Errorf("the call ends with %v", err)
				}
				got := toldOf[client.MiddlewarePanicked](t, w.events)
				if p := got[0]; len(got) != 1 || p.Service != "echo" || p.Method != method || p.TraceID != "4bf92f35" || p.Value != "secret" ||
					!strings.Contains(string(p.Stack), "TestPanicOfMiddleware") {
					t.Errorf("told %+v", got)
				}
				if p, ok := errors.AsType[*middleware.PanicError](<-seen); !ok || p.Value != "secret" {
					t.Errorf("the middleware around it sees %v", p)
				}
			})
		}
	}
}

// TestPanicIsTheCallers: a middleware runs in the goroutine of the caller where it can,
// which panics then.
func TestPanicIsTheCallers(t *testing.T) {
	w := newWorld(t, client.WithMiddleware(func(middleware.Handler) middleware.Handler {
		return func(context.Context, *middleware.Call) error { panic("secret") }
	}))
	for name, do := range map[string]func(){
		"unary":  func() { _, _ = call(t.Context(), w.conn(t), methodGet) },
		"netrpc": func() { _, _ = said(t.Context(), w.netrpc(t), "x") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if value := recover(); value != "secret" {
					t.Errorf("the caller panics with %v", value)
				}
			}()
			do()
		})
	}
	if got := recorded[client.MiddlewarePanicked](w.events); len(got) != 0 {
		t.Errorf("told %+v", got)
	}
}
