package framework_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"plinth.internal/framework"
)

// A job runs on one instance at a time. Without a registry there is one instance,
// which runs it.
func ExampleService_Job() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	app, err := framework.New("orders", func(_ context.Context, s *framework.Service) error {
		s.Job("reports", time.Hour, func(ctx context.Context) error {
			fmt.Println("fence", framework.Fence(ctx))
			cancel() // enough for an example
			return nil
		}, framework.AtOnce())
		return nil
	}, framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(io.Discard),
		framework.WithSetting("server.grpc.addr", ""), framework.WithSetting("server.admin.addr", ""))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(app.Run(ctx))
	// Output:
	// fence 1
	// <nil>
}
