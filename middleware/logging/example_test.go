package logging_test

import (
	"context"
	"fmt"
	"os"

	"go.uber.org/zap"

	"plinth.internal/log"
	"plinth.internal/middleware"
	"plinth.internal/middleware/logging"
)

// The handler's lines carry the trace of the call, without the handler doing
// anything for it.
func Example() {
	l, err := log.New(log.Config{Level: "warn", Output: os.Stdout, Format: log.FormatConsole})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := logging.Server(l)(func(ctx context.Context, _ *middleware.Call) error {
		fmt.Println(log.From(ctx).Core().Enabled(zap.WarnLevel))
		return nil
	})
	fmt.Println(h(context.Background(), &middleware.Call{Kind: middleware.ServerUnary, Service: "s.S", Method: "Get"}))
	// Output:
	// true
	// <nil>
}
