package service

import (
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"plinth.internal/frameworktest"
	yourservicev1 "plinth.internal/templates/service/api/yourservice/v1"
)

// TestService boots the whole service as main does, in memory, and calls it through the whole client stack.
func TestService(t *testing.T) {
	app := frameworktest.Start(t, "your-service", Setup)
	client := yourservicev1.NewYourServiceClient(app.Conn())
	ctx := t.Context()

	t.Run("answers at once", func(t *testing.T) {
		var header, trailer metadata.MD
		r, err := client.Get(ctx, &yourservicev1.GetRequest{Id: "welcome"}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{app.Instance().ID}; !slices.Equal(r.GetServedBy(), want) {
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
		for id, want := range map[string]codes.Code{"": codes.InvalidArgument, "nobody": codes.NotFound} {
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
