// Package service is your-service: its handlers, what they need, and how it is put together. It calls their-service.
package service

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/config"
	"plinth.internal/framework"
	theirservicev1 "plinth.internal/templates/callee/api/theirservice/v1"
	yourservicev1 "plinth.internal/templates/service/api/yourservice/v1"
)

// Setup puts the service together. The framework calls it once, before anything listens; what it registers is served afterwards.
func Setup(_ context.Context, s *framework.Service) error {
	settings, err := config.Bind(s.Config(), "store", DefaultSettings)
	if err != nil {
		return err
	}
	conn, err := s.Client("their-service") // finds its instances by itself, and never blocks
	if err != nil {
		return fmt.Errorf("call their-service: %w", err)
	}
	store := NewMemory(settings, Entry{ID: "welcome", Name: "Welcome to your-service"})
	yourservicev1.RegisterYourServiceServer(s, NewHandlers(store, theirservicev1.NewTheirServiceClient(conn), s.Instance().ID))
	return nil
}

// Handlers answer the calls of the API.
type Handlers struct {
	yourservicev1.UnimplementedYourServiceServer

	store    Store
	callee   theirservicev1.TheirServiceClient
	instance string
}

// NewHandlers returns handlers over a store, which ask callee. instance is this instance's ID, which goes into every answer.
func NewHandlers(store Store, callee theirservicev1.TheirServiceClient, instance string) *Handlers {
	return &Handlers{store: store, callee: callee, instance: instance}
}

// Get returns one item, if their-service has one with that id too.
func (h *Handlers) Get(ctx context.Context, r *yourservicev1.GetRequest) (*yourservicev1.GetResponse, error) {
	if r.GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "id is empty")
	}
	e, err := h.store.Get(ctx, r.GetId())
	if err != nil {
		return nil, storeError(err, r.GetId())
	}
	// The deadline, the trace and the retries of this call are the framework's; an error keeps the code that their-service gave it.
	theirs, err := h.callee.Get(ctx, &theirservicev1.GetRequest{Id: e.ID})
	if err != nil {
		return nil, fmt.Errorf("get %q from their-service: %w", e.ID, err)
	}
	return &yourservicev1.GetResponse{Item: item(e), ServedBy: append([]string{h.instance}, theirs.GetServedBy()...)}, nil
}

// Put stores an item.
func (h *Handlers) Put(ctx context.Context, r *yourservicev1.PutRequest) (*yourservicev1.PutResponse, error) {
	if r.GetItem().GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "item.id is empty")
	}
	e := Entry{ID: r.GetItem().GetId(), Name: r.GetItem().GetName()}
	if err := h.store.Put(ctx, e); err != nil {
		return nil, storeError(err, e.ID)
	}
	return &yourservicev1.PutResponse{Item: item(e), ServedBy: []string{h.instance}}, nil
}

// List sends every item.
func (h *Handlers) List(_ *yourservicev1.ListRequest, stream grpc.ServerStreamingServer[yourservicev1.ListResponse]) error {
	list, err := h.store.List(stream.Context())
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := stream.Send(&yourservicev1.ListResponse{Item: item(e), ServedBy: []string{h.instance}}); err != nil {
			return err
		}
	}
	return nil
}

func item(e Entry) *yourservicev1.Item {
	return &yourservicev1.Item{Id: e.ID, Name: e.Name}
}

// storeError gives an error of the store its code. Errors without one reach the caller as UNKNOWN.
func storeError(err error, id string) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return status.Errorf(codes.NotFound, "no item has the id %q", id)
	case errors.Is(err, ErrFull):
		return status.Error(codes.ResourceExhausted, "the store is full: raise store.max_items")
	}
	return err
}
