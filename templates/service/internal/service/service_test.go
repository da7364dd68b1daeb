package service

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	yourservicev1 "plinth.internal/templates/service/api/yourservice/v1"
)

func newHandlers(limit int) *Handlers {
	return NewHandlers(NewMemory(Settings{MaxItems: limit}, Entry{ID: "a", Name: "A"}), "instance-1")
}

func TestGet(t *testing.T) {
	tests := []struct {
		name string
		id   string
		code codes.Code
	}{
		{"there", "a", codes.OK},
		{"not there", "b", codes.NotFound},
		{"no id", "", codes.InvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := newHandlers(10).Get(t.Context(), &yourservicev1.GetRequest{Id: tt.id})
			if status.Code(err) != tt.code {
				t.Fatalf("code %v, want %v: %v", status.Code(err), tt.code, err)
			}
			if err == nil && (r.GetItem().GetName() != "A" || !slices.Equal(r.GetServedBy(), []string{"instance-1"})) {
				t.Errorf("answer %v", r)
			}
		})
	}
}

func TestPut(t *testing.T) {
	tests := []struct {
		name  string
		limit int
		item  *yourservicev1.Item
		code  codes.Code
	}{
		{"new", 2, &yourservicev1.Item{Id: "b", Name: "B"}, codes.OK},
		{"in place of another", 1, &yourservicev1.Item{Id: "a", Name: "B"}, codes.OK},
		{"full", 1, &yourservicev1.Item{Id: "b"}, codes.ResourceExhausted},
		{"no id", 2, &yourservicev1.Item{Name: "B"}, codes.InvalidArgument},
		{"no item", 2, nil, codes.InvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandlers(tt.limit)
			_, err := h.Put(t.Context(), &yourservicev1.PutRequest{Item: tt.item})
			if status.Code(err) != tt.code {
				t.Fatalf("code %v, want %v: %v", status.Code(err), tt.code, err)
			}
			if err != nil {
				return
			}
			e, err := h.store.Get(t.Context(), tt.item.GetId())
			if err != nil || e.Name != tt.item.GetName() {
				t.Errorf("stored %v, %v", e, err)
			}
		})
	}
}

// sent collects what a handler sends on a stream.
type sent struct {
	grpc.ServerStreamingServer[yourservicev1.ListResponse]

	ctx context.Context
	ids []string
}

func (s *sent) Context() context.Context { return s.ctx }

func (s *sent) Send(r *yourservicev1.ListResponse) error {
	s.ids = append(s.ids, r.GetItem().GetId())
	return nil
}

func TestList(t *testing.T) {
	h := newHandlers(10)
	for _, id := range []string{"c", "b"} {
		if _, err := h.Put(t.Context(), &yourservicev1.PutRequest{Item: &yourservicev1.Item{Id: id}}); err != nil {
			t.Fatal(err)
		}
	}
	stream := &sent{ctx: t.Context()}
	if err := h.List(&yourservicev1.ListRequest{}, stream); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(stream.ids, want) {
		t.Errorf("ids %v, want %v", stream.ids, want)
	}
}
