package client_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

// TestTypedErrorsAndRetry: what an error says about retrying decides, over gRPC and
// HTTP alike, within the rules.
func TestTypedErrorsAndRetry(t *testing.T) {
	const shop = apierror.Domain("shop.example.com")
	for _, tt := range []struct {
		name     string
		err      error
		reads    int64 // attempts of a call that only reads
		writes   int64 // of one that must not happen twice
		typed    bool
		wantCode codes.Code
	}{
		{"final by its code", shop.New(codes.Aborted, "CONFLICT", "x"), 1, 1, true, codes.Aborted},
		{"final, but retryable", shop.New(codes.Aborted, "CONFLICT", "x", apierror.Retryable(time.Millisecond)), 3, 1, true, codes.Aborted},
		{"retryable without a delay", shop.New(codes.FailedPrecondition, "NOT_YET", "x", apierror.Retryable(0)), 3, 1, true, codes.FailedPrecondition},
		{"overload, retryable", shop.New(codes.ResourceExhausted, "BUSY", "x", apierror.Retryable(0)), 3, 1, true, codes.ResourceExhausted},
		{"retryable too late", shop.New(codes.Aborted, "CONFLICT", "x", apierror.Retryable(time.Hour)), 1, 1, true, codes.Aborted},
		{"retried by its code", status.Error(codes.Unavailable, "x"), 3, 1, false, codes.Unavailable},
		{"retried by its code, but not retryable", shop.New(codes.Unavailable, "DOWN", "x", apierror.NotRetryable()), 1, 1, true, codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := func(string, string) client.Settings {
				return client.Settings{Balancer: balancer.NameRoundRobin, Breaker: breaker.Config{Policy: breaker.PolicyOff}, Retry: retry.Policy{Backoff: time.Millisecond}}
			}
			w := newWorld(t, client.WithSettings(settings))
			fail := func(context.Context, string) error { return fmt.Errorf("handle: %w", tt.err) }
			a, b := w.startServer(t, "a", fail), w.startServer(t, "b", fail)
			writeErr := func(rw http.ResponseWriter, _ *http.Request) {
				middleware.WriteHTTPError(rw, fmt.Errorf("handle: %w", tt.err))
			}
			web := w.web(t, "web", writeErr)

			for method, want := range map[string]int64{methodGet: tt.reads, methodPut: tt.writes} {
				before := a.calls.Load() + b.calls.Load()
				_, err := call(t.Context(), w.conn(t), method)
				if got := a.calls.Load() + b.calls.Load() - before; got != want {
					t.Errorf("gRPC %s: %d attempts, want %d", method, got, want)
				}
				if e, ok := apierror.From(err); ok != tt.typed || status.Code(err) != tt.wantCode || ok && e.Domain() != shop {
					t.Errorf("gRPC %s: the caller has %v", method, err)
				}
			}
			h := w.client.HTTP("echo")
			for method, want := range map[string]int64{http.MethodGet: tt.reads, http.MethodPost: tt.writes} {
				before := web.calls.Load()
				resp, err := do(t, h, method, "http://echo/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := web.calls.Load() - before; got != want {
					t.Errorf("HTTP %s: %d attempts, want %d", method, got, want)
				}
				if e, ok := apierror.FromResponse(resp); ok != tt.typed || ok && (e.Code() != tt.wantCode || e.Domain() != shop) {
					t.Errorf("HTTP %s: the caller has %v", method, e)
				}
				_ = resp.Body.Close()
			}
		})
	}
}
