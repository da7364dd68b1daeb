package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"plinth.internal/middleware"
)

// One concern, written once, serves HTTP as well as gRPC.
func Example() {
	report := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			err := next(ctx, call)
			fmt.Println(call.Kind, call.FullMethod(), middleware.CodeName(middleware.Code(err)))
			return err
		}
	}
	h := middleware.HTTPServer("shop", "GET /items/{id}", http.NotFoundHandler(), report)
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/items/7", nil))

	unary := middleware.UnaryServer(report)
	_ = unary // for grpc.UnaryInterceptor

	// A handler on its own, for a test of the middleware.
	h2 := report(func(context.Context, *middleware.Call) error { return errors.New("no") })
	_ = h2(context.Background(), &middleware.Call{Kind: middleware.ClientUnary, Service: "orders.v1.Orders", Method: "Get"})
	// Output:
	// server_http GET /items/{id} NOT_FOUND
	// client_unary orders.v1.Orders/Get UNKNOWN
}
