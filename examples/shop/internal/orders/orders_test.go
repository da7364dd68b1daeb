package orders_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	inventoryv1 "plinth.internal/examples/shop/api/inventory/v1"
	ordersv1 "plinth.internal/examples/shop/api/orders/v1"
	"plinth.internal/examples/shop/internal/billing"
	"plinth.internal/examples/shop/internal/inventory"
	"plinth.internal/examples/shop/internal/orders"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
)

// TestShop runs the whole shop: three services that find and call one another.
func TestShop(t *testing.T) {
	env := frameworktest.New(t)
	env.Start("inventory", inventory.Setup, framework.WithSetting("inventory.stock.book", "10"))
	env.Start("billing", billing.Setup, framework.WithSetting("billing.limit", "2500"))
	app := env.Start("orders", orders.Setup)
	c := ordersv1.NewOrdersClient(app.Conn())

	var header metadata.MD
	placed, err := c.Place(t.Context(), &ordersv1.PlaceRequest{Id: "a", Item: "book", Quantity: 2}, grpc.Header(&header))
	if err != nil || placed.GetOrder().GetTotal() != 2500 {
		t.Fatalf("Place = %v, %v", placed, err)
	}
	if id := header.Get("x-trace-id"); len(id) != 1 || len(id[0]) != 32 {
		t.Errorf("x-trace-id = %q", id)
	}
	got, err := c.Get(t.Context(), &ordersv1.GetRequest{Id: "a"})
	if err != nil || got.GetOrder().GetQuantity() != 2 {
		t.Errorf("Get = %v, %v", got, err)
	}
	for _, tc := range []struct {
		req  *ordersv1.PlaceRequest
		want codes.Code
	}{
		{&ordersv1.PlaceRequest{Id: "b", Item: "book", Quantity: 3}, codes.FailedPrecondition}, // above the limit
		{&ordersv1.PlaceRequest{Id: "b", Item: "car", Quantity: 1}, codes.NotFound},
		{&ordersv1.PlaceRequest{Id: "b", Item: "book", Quantity: 11}, codes.FailedPrecondition}, // not in stock
		{&ordersv1.PlaceRequest{Id: "b"}, codes.InvalidArgument},
	} {
		if _, err := c.Place(t.Context(), tc.req); status.Code(err) != tc.want {
			t.Errorf("Place(%v) = %v, want %v", tc.req, err, tc.want)
		}
	}
	stock, err := inventoryv1.NewInventoryClient(env.Conn("inventory")).Watch(t.Context(), &inventoryv1.WatchRequest{Item: "book"})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stock.Recv(); err != nil || m.GetStock() != 8 {
		t.Errorf("stock = %v, %v; want 8: what was refused is given back", m, err)
	}

	resp, err := app.HTTP().Get("http://orders/orders/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"total":2500`) {
		t.Errorf("GET /orders/a = %d %s, %v", resp.StatusCode, body, err)
	}
}

// TestREST calls the shop as a web page does.
func TestREST(t *testing.T) {
	env := frameworktest.New(t)
	env.Start("inventory", inventory.Setup)
	env.Start("billing", billing.Setup)
	app := env.Start("orders", orders.Setup)
	for _, tc := range []struct {
		verb, path, body string
		status           int
		want             string
	}{
		{http.MethodPut, "/v1/orders/a", `{"item":"pen","quantity":2}`, 200, `"quantity":"2"`},
		{http.MethodGet, "/v1/orders/a", "", 200, `"item":"pen"`},
		{http.MethodGet, "/v1/orders/b", "", 404, `there is no order \"b\"`},
		{http.MethodPut, "/v1/orders/c", `{"item":"pen","quantity":"many"}`, 400, "quantity"},
		{http.MethodPut, "/v1/orders/c", `{"item":"pen"`, 400, "read the request"},
		{http.MethodGet, "/openapi.json", "", 200, `"/v1/orders/{id}"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.verb, "http://orders"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := app.HTTP().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		text := strings.ReplaceAll(string(body), `": `, `":`) // protojson varies its spaces
		if err != nil || resp.StatusCode != tc.status || !strings.Contains(text, tc.want) {
			t.Errorf("%s %s = %d %s, %v; want %d with %s", tc.verb, tc.path, resp.StatusCode, body, err, tc.status, tc.want)
		}
	}
}

// TestWithoutBilling shows what customers get while a service is missing.
func TestWithoutBilling(t *testing.T) {
	env := frameworktest.New(t)
	env.Start("inventory", inventory.Setup)
	app := env.Start("orders", orders.Setup)
	_, err := ordersv1.NewOrdersClient(app.Conn()).Place(t.Context(), &ordersv1.PlaceRequest{Id: "a", Item: "pen", Quantity: 1})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `no instance of "billing"`) {
		t.Errorf("Place = %v, want UNAVAILABLE that names billing", err)
	}
}
