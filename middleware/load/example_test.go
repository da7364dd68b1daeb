package load_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"plinth.internal/middleware"
	"plinth.internal/middleware/load"
)

// The tracker is the outermost middleware of a server. A caller that sends a
// limit gets reports, and its call back where the server is busier than that.
func Example() {
	tracker := load.New()
	var shop http.Handler
	shop = middleware.HTTPServer("shop", "GET /items", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Plinth-Rif-Max") == "1" {
			return // served
		}
		// While this call is in flight, another one comes.
		second := httptest.NewRequestWithContext(context.WithoutCancel(r.Context()), http.MethodGet, "/items", nil)
		second.Header.Set("Plinth-Rif-Max", "1")
		answer := httptest.NewRecorder()
		shop.ServeHTTP(answer, second)
		report, _ := load.FromHTTP(answer.Header())
		fmt.Println("second call:", answer.Code, "bounced:", answer.Header().Get("Plinth-Bounce"), "in flight:", report.InFlight)
	}), tracker.Middleware())

	shop.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/items", nil))
	fmt.Println("bounced:", tracker.Bounced(), "in flight:", tracker.InFlight())
	// Output:
	// second call: 503 bounced: 1 in flight: 1
	// bounced: 1 in flight: 0
}
