// Package orders is the service that customers place orders with. It calls
// inventory and billing.
package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	billingv1 "plinth.internal/examples/shop/api/billing/v1"
	inventoryv1 "plinth.internal/examples/shop/api/inventory/v1"
	ordersv1 "plinth.internal/examples/shop/api/orders/v1"

	"plinth.internal/framework"
	"plinth.internal/log"
)

// Setup puts the service together.
func Setup(_ context.Context, s *framework.Service) error {
	inventory, err := s.Client("inventory")
	if err != nil {
		return err
	}
	billing, err := s.Client("billing")
	if err != nil {
		return err
	}
	h := &handlers{
		inventory: inventoryv1.NewInventoryClient(inventory),
		billing:   billingv1.NewBillingClient(billing),
		orders:    map[string]*ordersv1.Order{},
		placed:    prometheus.NewCounter(prometheus.CounterOpts{Name: "orders_placed_total", Help: "Orders placed."}),
	}
	if err := s.Metrics().Register(h.placed); err != nil {
		return fmt.Errorf("register metric: %w", err)
	}
	s.Gateway(ordersv1.OrdersRoutes) // REST, as the proto's annotations say
	s.OpenAPI(ordersv1.OrdersOpenAPI)
	ordersv1.RegisterOrdersServer(s, h)
	s.Handle("GET /orders/{id}", http.HandlerFunc(h.page))
	return nil
}

type handlers struct {
	ordersv1.UnimplementedOrdersServer

	inventory inventoryv1.InventoryClient
	billing   billingv1.BillingClient
	placed    prometheus.Counter

	mu     sync.Mutex
	orders map[string]*ordersv1.Order
}

// Place reserves, charges and then notes the order. Each step can be repeated
// for the same order, so a caller that has not got an answer sends it again.
func (h *handlers) Place(ctx context.Context, r *ordersv1.PlaceRequest) (*ordersv1.PlaceResponse, error) {
	if r.GetId() == "" || r.GetItem() == "" || r.GetQuantity() <= 0 {
		return nil, status.Error(codes.InvalidArgument, "id, item and a quantity above zero are needed")
	}
	if o := h.order(r.GetId()); o != nil {
		return &ordersv1.PlaceResponse{Order: o}, nil
	}
	reserved, err := h.inventory.Reserve(ctx, &inventoryv1.ReserveRequest{OrderId: r.GetId(), Item: r.GetItem(), Quantity: r.GetQuantity()})
	if err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	o := &ordersv1.Order{Id: r.GetId(), Item: r.GetItem(), Quantity: r.GetQuantity(), Total: reserved.GetPrice() * r.GetQuantity()}
	if _, err := h.billing.Charge(ctx, &billingv1.ChargeRequest{OrderId: o.GetId(), Amount: o.GetTotal()}); err != nil {
		return nil, errors.Join(fmt.Errorf("charge: %w", err), h.giveBack(ctx, o, err))
	}
	h.mu.Lock()
	h.orders[o.GetId()] = o
	h.mu.Unlock()
	h.placed.Inc()
	log.From(ctx).Info("placed")
	return &ordersv1.PlaceResponse{Order: o}, nil
}

// giveBack releases the goods where the charge was refused. Where it is not
// known whether the customer was charged they stay reserved for the next try.
func (h *handlers) giveBack(ctx context.Context, o *ordersv1.Order, charge error) error {
	if status.Code(charge) != codes.FailedPrecondition {
		return nil
	}
	_, err := h.inventory.Release(ctx, &inventoryv1.ReleaseRequest{OrderId: o.GetId()})
	return err
}

func (h *handlers) Get(_ context.Context, r *ordersv1.GetRequest) (*ordersv1.GetResponse, error) {
	o := h.order(r.GetId())
	if o == nil {
		return nil, status.Errorf(codes.NotFound, "there is no order %q", r.GetId())
	}
	return &ordersv1.GetResponse{Order: o}, nil
}

func (h *handlers) order(id string) *ordersv1.Order {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.orders[id]
}

// page shows an order over HTTP.
func (h *handlers) page(w http.ResponseWriter, r *http.Request) {
	o := h.order(r.PathValue("id"))
	if o == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(o); err != nil {
		log.From(r.Context()).Warn("the customer has gone")
	}
}
