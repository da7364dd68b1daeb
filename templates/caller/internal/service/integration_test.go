package service

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	theirservicev1 "plinth.internal/templates/callee/api/theirservice/v1"
	yourservicev1 "plinth.internal/templates/service/api/yourservice/v1"
)

// their is their-service as far as this service needs it: it has every item but "ours".
type their struct {
	theirservicev1.UnimplementedTheirServiceServer

	instance string
}

func (s *their) Get(_ context.Context, r *theirservicev1.GetRequest) (*theirservicev1.GetResponse, error) {
	if r.GetId() == "ours" {
		return nil, status.Error(codes.NotFound, "their-service has no such item")
	}
	return &theirservicev1.GetResponse{Item: &theirservicev1.Item{Id: r.GetId()}, ServedBy: []string{s.instance}}, nil
}

func setupTheir(_ context.Context, s *framework.Service) error {
	theirservicev1.RegisterTheirServiceServer(s, &their{instance: s.Instance().ID})
	return nil
}

// TestService boots the whole service as main does, in memory, beside what it calls, and calls it through the whole client stack.
func TestService(t *testing.T) {
	env := frameworktest.New(t)
	callee := env.Start("their-service", setupTheir)
	app := env.Start("your-service", Setup)
	client := yourservicev1.NewYourServiceClient(app.Conn())
	ctx := t.Context()

	t.Run("answers at once", func(t *testing.T) {
		var header, trailer metadata.MD
		r, err := client.Get(ctx, &yourservicev1.GetRequest{Id: "welcome"}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{app.Instance().ID, callee.Instance().ID}; !slices.Equal(r.GetServedBy(), want) {
			t.Errorf("served by %v, want %v", r.GetServedBy(), want)
		}
		if id := metadata.Join(header, trailer).Get("x-trace-id"); len(id) != 1 || len(id[0]) != 32 {
			t.Errorf("trace ID %v, want one of 32 digits", id)
		}
	})

	t.Run("keeps what it is given", func(t *testing.T) {
		if _, err := client.Put(ctx, &yourservicev1.PutRequest{Item: &yourservicev1.Item{Id: "a", Name: "A"}}); err != nil {
			t.Fatal(err)
		}
		stream, err := client.List(ctx, &yourservicev1.ListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.GetItem().GetId())
		}
		if want := []string{"a", "welcome"}; !slices.Equal(ids, want) {
			t.Errorf("list %v, want %v", ids, want)
		}
	})

	t.Run("says what is wrong", func(t *testing.T) {
		if _, err := client.Put(ctx, &yourservicev1.PutRequest{Item: &yourservicev1.Item{Id: "ours"}}); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]codes.Code{"": codes.InvalidArgument, "nobody": codes.NotFound, "ours": codes.NotFound} {
			if _, err := client.Get(ctx, &yourservicev1.GetRequest{Id: id}); status.Code(err) != want {
				t.Errorf("get %q: %v, want %v", id, err, want)
			}
		}
	})

	t.Run("is well", func(t *testing.T) {
		if h := app.Health(); h.Status != "ok" || h.Service != "your-service" {
			t.Errorf("health %+v", h)
		}
	})
}
