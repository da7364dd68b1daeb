package health

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// grpcServer is grpc's own server, but for those who watch what is not there:
// it would remember every name that anybody has ever asked for.
type grpcServer struct {
	*health.Server

	health *Health
}

// Watch streams the status of a service, SERVICE_UNKNOWN until it is served.
func (s grpcServer) Watch(in *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	for told := false; ; told = true {
		served, more := s.health.serves(in.GetService())
		if served {
			return s.Server.Watch(in, stream)
		}
		if !told {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVICE_UNKNOWN}); err != nil {
				return status.Error(codes.Canceled, "the stream has ended")
			}
		}
		select {
		case <-more:
		case <-stream.Context().Done():
			return status.Error(codes.Canceled, "the stream has ended")
		}
	}
}

// serves reports whether a service is served; more is closed when another one
// is.
func (h *Health) serves(service string) (served bool, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, served = h.services[service]
	return served || service == "", h.more
}
