// Package billing is the service that charges customers.
package billing

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	billingv1 "plinth.internal/examples/shop/api/billing/v1"

	"plinth.internal/config"
	"plinth.internal/framework"
	"plinth.internal/log"
)

// Settings are billing's own part of the configuration, under "billing".
type Settings struct {
	// Limit is the highest amount of one charge, in cents.
	Limit int64 `yaml:"limit"`
}

// Validate checks what the types cannot.
func (s *Settings) Validate() error {
	if s.Limit <= 0 {
		return config.Invalid("limit", "is not above zero")
	}
	return nil
}

// Setup puts the service together.
func Setup(_ context.Context, s *framework.Service) error {
	settings, err := config.Bind(s.Config(), "billing", Settings{Limit: 100_000})
	if err != nil {
		return err
	}
	l := &ledger{receipts: map[string]string{}}
	s.Check("ledger", l.ping)
	s.OnStop("close ledger", l.close)
	billingv1.RegisterBillingServer(s, &handlers{settings: settings, ledger: l})
	return nil
}

type handlers struct {
	billingv1.UnimplementedBillingServer

	settings Settings
	ledger   *ledger
}

func (h *handlers) Charge(ctx context.Context, r *billingv1.ChargeRequest) (*billingv1.ChargeResponse, error) {
	switch {
	case r.GetOrderId() == "":
		return nil, status.Error(codes.InvalidArgument, "order_id is empty")
	case r.GetAmount() <= 0:
		return nil, status.Error(codes.InvalidArgument, "amount is not above zero")
	case r.GetAmount() > h.settings.Limit:
		return nil, status.Errorf(codes.FailedPrecondition, "the charge of %d is above the limit of %d", r.GetAmount(), h.settings.Limit)
	}
	receipt, err := h.ledger.charge(r.GetOrderId())
	if err != nil {
		return nil, err
	}
	log.From(ctx).Info("charged")
	return &billingv1.ChargeResponse{Receipt: receipt}, nil
}

// ledger stands for a database.
type ledger struct {
	mu       sync.Mutex
	receipts map[string]string // by order
	closed   bool
}

var errClosed = errors.New("the ledger is closed")

func (l *ledger) charge(order string) (receipt string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", errClosed
	}
	if receipt, ok := l.receipts[order]; ok {
		return receipt, nil
	}
	receipt = fmt.Sprintf("receipt-%d", len(l.receipts)+1)
	l.receipts[order] = receipt
	return receipt, nil
}

func (l *ledger) ping(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	return nil
}

func (l *ledger) close(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}
