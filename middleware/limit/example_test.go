package limit_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"plinth.internal/middleware"
	"plinth.internal/middleware/limit"
)

// A rate holds from the moment on at which it is configured.
func Example() {
	limiter := limit.New(limit.OnReject(func(call *middleware.Call, reason limit.Reason) {
		fmt.Println(call.FullMethod(), "was turned away:", reason)
	}))
	if err := limiter.Configure(limit.Config{
		Rates: []limit.Rate{{Name: "search", Method: "GET /search", RPS: 0.1, Burst: 2}},
	}); err != nil {
		fmt.Println(err)
		return
	}
	search := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("nothing found")) })
	server := middleware.HTTPServer("shop", "GET /search", search, limiter.Middleware())
	for range 3 {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/search", http.NoBody))
		fmt.Println(w.Code)
	}
	// Output:
	// 200
	// 200
	// GET /search was turned away: rate_method
	// 429
}
