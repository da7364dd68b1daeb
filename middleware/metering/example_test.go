package metering_test

import (
	"context"
	"fmt"

	"plinth.internal/metrics"
	"plinth.internal/middleware"
	"plinth.internal/middleware/metering"
)

func Example() {
	m := metrics.New()
	h := metering.Client(m.Client)(func(_ context.Context, c *middleware.Call) error {
		c.Attempts = 1
		return nil
	})
	_ = h(context.Background(), &middleware.Call{Kind: middleware.ClientUnary, Target: "billing", Service: "billing.v1.Billing", Method: "Pay"})
	families, err := m.Gatherer().Gather()
	if err != nil {
		fmt.Println(err)
	}
	for _, f := range families {
		if f.GetName() == "plinth_client_attempts_total" {
			fmt.Println(f.GetMetric()[0].GetLabel()[0].GetValue(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output: billing.v1.Billing/Pay 1
}
