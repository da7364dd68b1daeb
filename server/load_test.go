package server_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"plinth.internal/middleware"
	"plinth.internal/middleware/load"
	"plinth.internal/server"
)

// TestCheckIsLoadProbe: a client that wants to know how busy a server is asks
// for its health, and is answered when calls are handed back.
func TestCheckIsLoadProbe(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	cfg := loopback()
	cfg.Middleware = []middleware.Middleware{load.New().Middleware()}
	_, at := serve(t, cfg, func(s *server.Server) {
		s.RegisterService(&waiterDesc, waiterFunc(func(context.Context) error {
			entered <- struct{}{}
			<-release
			return nil
		}))
	})
	cc := dial(t, at[server.GRPC])
	done := make(chan error, 1)
	go func() { done <- callWait(t.Context(), cc) }()
	recv(t, "the call", entered)

	var trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(t.Context(), load.HeaderLimit, "1")
	if _, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Trailer(&trailer)); err != nil {
		t.Errorf("health: %v", err)
	}
	check := func() {
		t.Helper()
		if v := trailer.Get(load.HeaderReport); len(v) != 1 {
			t.Errorf("%d reports", len(v))
		} else if r, ok := load.Parse(v[0]); !ok || r.InFlight != 1 {
			t.Errorf("the report is %+v, %v", r, ok)
		}
	}
	check()
	err := cc.Invoke(ctx, "/test.v1.Waiter/Wait", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Trailer(&trailer))
	if status.Code(err) != codes.Unavailable || len(trailer.Get(load.HeaderBounce)) != 1 {
		t.Errorf("the second call: %v, trailer %v", err, trailer)
	}
	check()
	close(release)
	if err := recv(t, "the end of the call", done); err != nil {
		t.Error(err)
	}
}
