package inventory_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inventoryv1 "plinth.internal/examples/shop/api/inventory/v1"
	"plinth.internal/examples/shop/internal/inventory"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

func TestReserve(t *testing.T) {
	app := frameworktest.Start(t, "inventory", inventory.Setup, framework.WithSetting("inventory.stock.book", "3"))
	c := inventoryv1.NewInventoryClient(app.Conn())

	stream, err := c.Watch(t.Context(), &inventoryv1.WatchRequest{Item: "book"})
	if err != nil {
		t.Fatal(err)
	}
	see := func(want int64) {
		t.Helper()
		if m, err := stream.Recv(); err != nil || m.GetStock() != want {
			t.Fatalf("stock = %v, %v; want %d", m, err, want)
		}
	}
	see(3)
	two := &inventoryv1.ReserveRequest{OrderId: "a", Item: "book", Quantity: 2}
	for range 2 { // the second time it changes nothing
		if _, err := c.Reserve(t.Context(), two); err != nil {
			t.Fatal(err)
		}
	}
	see(1)
	for _, tc := range []struct {
		req  *inventoryv1.ReserveRequest
		want codes.Code
	}{
		{&inventoryv1.ReserveRequest{OrderId: "b", Item: "book", Quantity: 2}, codes.FailedPrecondition},
		{&inventoryv1.ReserveRequest{OrderId: "b", Item: "car", Quantity: 1}, codes.NotFound},
		{&inventoryv1.ReserveRequest{OrderId: "b", Item: "book"}, codes.InvalidArgument},
	} {
		if _, err := c.Reserve(t.Context(), tc.req); status.Code(err) != tc.want {
			t.Errorf("Reserve(%v) = %v, want %v", tc.req, err, tc.want)
		}
	}
	if _, err := c.Release(t.Context(), &inventoryv1.ReleaseRequest{OrderId: "a"}); err != nil {
		t.Fatal(err)
	}
	see(3)
}

func TestRestock(t *testing.T) {
	app := frameworktest.Start(t, "inventory", inventory.Setup,
		framework.WithSetting("inventory.stock.book", "1"), framework.WithSetting("inventory.restock", "10ms"))
	c := inventoryv1.NewInventoryClient(app.Conn())
	stream, err := c.Watch(t.Context(), &inventoryv1.WatchRequest{Item: "book"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reserve(t.Context(), &inventoryv1.ReserveRequest{OrderId: "a", Item: "book", Quantity: 1}); err != nil {
		t.Fatal(err)
	}
	seen := []int64{}
	for len(seen) == 0 || seen[len(seen)-1] != 1 || len(seen) < 2 { // bought again, at the latest when the test times out
		m, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %v: %v", seen, err)
		}
		seen = append(seen, m.GetStock())
	}
}
