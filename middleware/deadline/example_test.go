package deadline_test

import (
	"context"
	"fmt"
	"time"

	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

func Example() {
	client := deadline.Client(func(call *middleware.Call) time.Duration {
		if call.Method == "Report" {
			return time.Minute
		}
		return 3 * time.Second
	})
	handler := client(func(ctx context.Context, _ *middleware.Call) error {
		d, _ := ctx.Deadline()
		fmt.Println(time.Until(d).Round(time.Second))
		return nil
	})
	_ = handler(context.Background(), &middleware.Call{Kind: middleware.ClientUnary, Method: "Get"})
	_ = handler(context.Background(), &middleware.Call{Kind: middleware.ClientUnary, Method: "Report"})
	// Output:
	// 3s
	// 1m0s
}
