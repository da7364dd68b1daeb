package trace_test

import (
	"context"
	"fmt"

	oteltrace "go.opentelemetry.io/otel/trace"

	"plinth.internal/trace"
)

// A request that came with an x-trace-id is handed on under the same ID.
func Example() {
	tracer, err := trace.New(trace.Config{Service: "orders"})
	if err != nil {
		fmt.Println(err)
		return
	}
	received := headers{"x-trace-id": "0AF76519-16CD-43DD-8448-EB211C80319C"}
	ctx, parent := trace.Extract(context.Background(), received)
	ctx, _ = tracer.Begin(ctx, parent, oteltrace.SpanKindServer, op("orders.v1.Orders/Get"))
	fmt.Println(trace.ID(ctx))

	sent := headers{}
	trace.Inject(ctx, sent)
	fmt.Println(sent["traceparent"][:36])
	// Output:
	// 0af7651916cd43dd8448eb211c80319c
	// 00-0af7651916cd43dd8448eb211c80319c-
}
