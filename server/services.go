package server

import "google.golang.org/grpc"

// Services are the gRPC services that are registered, grpc.health.v1 among them, by
// their names.
func (s *Server) Services() map[string]grpc.ServiceInfo { return s.grpc.GetServiceInfo() }
