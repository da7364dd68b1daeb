package fault_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
	"plinth.internal/middleware/fault"
)

func Example() {
	var i fault.Injector
	if err := i.Set([]fault.Rule{{Name: "game-day", Method: "orders.v1.Orders/*", Code: codes.Unavailable}}, false); err != nil {
		fmt.Println(err)
	}
	intercept := middleware.UnaryServer(i.Middleware())
	_, err := intercept(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/orders.v1.Orders/Get"},
		func(context.Context, any) (any, error) { return "an order", nil })
	fmt.Println(err)
	// Output: rpc error: code = Unavailable desc = this call fails on purpose (fault rule game-day)
}
