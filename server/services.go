package server

import (
	"slices"

	"google.golang.org/grpc"

	"plinth.internal/middleware"
	"plinth.internal/server/gateway"
)

// Services are the gRPC services that are registered, grpc.health.v1 among them, by
// their names.
func (s *Server) Services() map[string]grpc.ServiceInfo { return s.grpc.GetServiceInfo() }

// Methods are what can be called, sorted, as the middlewares see it in
// [plinth.internal/middleware.Call.FullMethod]: "orders.v1.Orders/Get" for gRPC, the
// pattern for an HTTP route, and the names that stand for requests without any. It is
// complete when the setup is over.
func (s *Server) Methods() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{middleware.Unmatched}
	for _, h := range s.web.handled {
		out = append(out, h.pattern)
	}
	if s.web.gateway != nil {
		out = append(out, gateway.Unannotated)
	}
	for name, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			out = append(out, name+"/"+m.Name)
		}
	}
	slices.Sort(out)
	return out
}
