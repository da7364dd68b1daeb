// Package inventory is the service that keeps the stock.
package inventory

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inventoryv1 "plinth.internal/examples/shop/api/inventory/v1"

	"plinth.internal/config"
	"plinth.internal/framework"
)

// Settings are inventory's own part of the configuration, under "inventory".
type Settings struct {
	// Stock is how much there is of each item at the start.
	Stock map[string]int64 `yaml:"stock"`
	// Price is the price of every item, in cents.
	Price int64 `yaml:"price"`
	// Restock is how often what was sold is bought again; zero means never.
	Restock time.Duration `yaml:"restock"`
}

// restockSlack is how much later than planned a restock may come before the
// instance stops taking calls.
const restockSlack = 10 * time.Second

// Setup puts the service together.
func Setup(_ context.Context, s *framework.Service) error {
	settings, err := config.Bind(s.Config(), "inventory", Settings{
		Stock: map[string]int64{"book": 100, "pen": 1000}, Price: 1250,
	})
	if err != nil {
		return err
	}
	st := newStock(settings.Stock)
	if settings.Restock > 0 {
		beat := s.Heartbeat("restock", settings.Restock+restockSlack)
		s.Go("restock", func(ctx context.Context) error {
			tick := time.NewTicker(settings.Restock)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
					st.restock()
					beat()
				}
			}
		})
	}
	inventoryv1.RegisterInventoryServer(s, &handlers{stock: st, price: settings.Price})
	return nil
}

type handlers struct {
	inventoryv1.UnimplementedInventoryServer

	stock *stock
	price int64
}

func (h *handlers) Reserve(_ context.Context, r *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
	if r.GetOrderId() == "" || r.GetQuantity() <= 0 {
		return nil, status.Error(codes.InvalidArgument, "order_id is empty or quantity not above zero")
	}
	if err := h.stock.reserve(r.GetOrderId(), r.GetItem(), r.GetQuantity()); err != nil {
		return nil, err
	}
	return &inventoryv1.ReserveResponse{Price: h.price}, nil
}

func (h *handlers) Release(_ context.Context, r *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	h.stock.release(r.GetOrderId())
	return &inventoryv1.ReleaseResponse{}, nil
}

func (h *handlers) Watch(r *inventoryv1.WatchRequest, stream grpc.ServerStreamingServer[inventoryv1.WatchResponse]) error {
	ctx := stream.Context()
	for {
		n, changed, err := h.stock.look(r.GetItem())
		if err != nil {
			return err
		}
		if err := stream.Send(&inventoryv1.WatchResponse{Stock: n}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
