package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"plinth.internal/middleware"
	"plinth.internal/middleware/auth"
)

// A rule for each group of methods; what has none is refused.
func Example() {
	a, err := auth.New(auth.Config{Policy: auth.Policy{Rules: []auth.Rule{
		{Name: "public", Methods: []string{"GET /prices/*"}, Allow: []string{auth.Anonymous}},
		{Name: "services", Methods: []string{"POST /orders"}, Allow: []string{"mtls:spiffe://example.org/ns/prod/*"}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	for _, route := range []string{"GET /prices/{id}", "POST /orders", "GET /admin"} {
		mux.Handle(route, middleware.HTTPServer("shop", route, http.NotFoundHandler(), a.Middleware()))
	}
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/prices/7", nil),
		httptest.NewRequest(http.MethodPost, "/orders", nil),
		httptest.NewRequest(http.MethodGet, "/admin", nil),
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%s %s %d %q\n", r.Method, r.URL, w.Code, w.Header().Get("WWW-Authenticate"))
	}
	// Output:
	// GET /prices/7 404 ""
	// POST /orders 401 "Bearer"
	// GET /admin 403 ""
}
