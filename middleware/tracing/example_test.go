package tracing_test

import (
	"fmt"
	"net/http"

	"plinth.internal/middleware/tracing"
	"plinth.internal/trace"
)

func Example() {
	tracer, err := trace.New(trace.Config{Service: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := serve(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("handler: ", trace.ID(r.Context()))
	}, [2]string{"X-Trace-Id", "0af7651916cd43dd8448eb211c80319c"}, tracing.Server(tracer))
	fmt.Println("response:", w.Header().Get("X-Trace-Id"))
	// Output:
	// handler:  0af7651916cd43dd8448eb211c80319c
	// response: 0af7651916cd43dd8448eb211c80319c
}
