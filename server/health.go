package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthServer ends the streams of Watch when the server stops. They would go on
// for as long as the client likes, and hold up every graceful stop.
type healthServer struct {
	healthpb.HealthServer

	stopping context.Context
}

// Watch streams the status of a service until the caller or the server ends it.
func (h healthServer) Watch(in *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	err := h.HealthServer.Watch(in, &watchStream{stream, ctx})
	if h.stopping.Err() != nil {
		return status.Error(codes.Unavailable, "the server is stopping")
	}
	return err
}

type watchStream struct {
	grpc.ServerStreamingServer[healthpb.HealthCheckResponse]

	ctx context.Context
}

func (s *watchStream) Context() context.Context { return s.ctx }
