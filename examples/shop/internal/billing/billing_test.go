package billing_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	billingv1 "plinth.internal/examples/shop/api/billing/v1"
	"plinth.internal/examples/shop/internal/billing"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

func TestCharge(t *testing.T) {
	app := frameworktest.Start(t, "billing", billing.Setup, framework.WithSetting("billing.limit", "500"))
	c := billingv1.NewBillingClient(app.Conn())

	first, err := c.Charge(t.Context(), &billingv1.ChargeRequest{OrderId: "a", Amount: 500})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Charge(t.Context(), &billingv1.ChargeRequest{OrderId: "a", Amount: 500})
	if err != nil || again.GetReceipt() != first.GetReceipt() {
		t.Errorf("charging again = %v, %v; want %v", again, err, first)
	}
	for _, tc := range []struct {
		req  *billingv1.ChargeRequest
		want codes.Code
	}{
		{&billingv1.ChargeRequest{OrderId: "b", Amount: 501}, codes.FailedPrecondition},
		{&billingv1.ChargeRequest{OrderId: "b"}, codes.InvalidArgument},
		{&billingv1.ChargeRequest{Amount: 1}, codes.InvalidArgument},
	} {
		if _, err := c.Charge(t.Context(), tc.req); status.Code(err) != tc.want {
			t.Errorf("Charge(%v) = %v, want %v", tc.req, err, tc.want)
		}
	}
	if h := app.Health(); h.Status != framework.HealthOK || len(h.Checks) != 1 || h.Checks[0].Name != "ledger" {
		t.Errorf("health = %+v", h)
	}
}
