package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"plinth.internal/metrics"
)

func Example() {
	m := metrics.New()
	method := m.Server.Method("orders", "orders.v1.Orders", "Get") // looked up once and kept
	method.Begin()
	method.End(0, "OK", time.Now(), 0, "")

	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "plinth_server_call_duration_seconds_count") {
			fmt.Print(line)
		}
	}
	// Output: plinth_server_call_duration_seconds_count{code="OK",method="orders.v1.Orders/Get",service="orders"} 1
}
