package recovery_test

import (
	"context"
	"fmt"

	"plinth.internal/middleware"
	"plinth.internal/middleware/recovery"
)

func Example() {
	m := recovery.New(func(_ context.Context, call *middleware.Call, value any, _ []byte) {
		fmt.Println("reported:", call.FullMethod(), value)
	})
	h := m(func(context.Context, *middleware.Call) error { panic("index out of range") })
	err := h(context.Background(), &middleware.Call{Service: "orders.v1.Orders", Method: "Get"})
	fmt.Println("the caller sees:", err)
	// Output:
	// reported: orders.v1.Orders/Get index out of range
	// the caller sees: rpc error: code = Internal desc = internal error in orders.v1.Orders/Get
}
