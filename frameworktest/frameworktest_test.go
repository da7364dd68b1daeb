package frameworktest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client"
	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/middleware"
)

// TestClientOptions: they are those of the client that the test calls with.
func TestClientOptions(t *testing.T) {
	t.Parallel()
	hang := func(_ context.Context, s *framework.Service) error {
		s.Handle("GET /", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		return nil
	}
	var seen []string
	app := frameworktest.New(t,
		client.WithSettings(func(string, string) client.Settings { return client.Settings{Timeout: 50 * time.Millisecond} }),
		client.WithMiddleware(func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, call *middleware.Call) error {
				seen = append(seen, call.Target)
				return next(ctx, call)
			}
		}),
	).Start("hanging", hang)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hanging/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := app.HTTP().Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if middleware.Code(err) != codes.DeadlineExceeded || len(seen) != 1 || seen[0] != "hanging" {
		t.Errorf("the call ended with %v, and the middleware saw %q", err, seen)
	}
}
