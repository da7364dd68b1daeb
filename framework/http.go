package framework

import (
	"context"
	"net/http"

	"plinth.internal/server/gateway"
)

// openAPIPath is where the document of the REST routes is served.
const openAPIPath = "/openapi.json"

// Gateway serves gRPC methods of this service as REST with JSON on
// server.http.addr, as the google.api.http annotations of their protos say. The
// generated code has what adds the routes:
//
//	s.Gateway(func(ctx context.Context, mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
//		return ordersv1.RegisterOrdersHandlerClient(ctx, mux, ordersv1.NewOrdersClient(conn))
//	})
//
// The handlers that are registered in this process answer, with no connection in
// between. Logs, metrics, limits and policies see such a call under the gRPC
// method's name, and validation sees its messages. Routes of [Service.Handle] come
// first where both match. Nil, and routes of a service that is not registered here,
// end the start.
func (s *Service) Gateway(register gateway.Register) {
	s.app.server.Gateway(context.Background(), register)
}

// OpenAPI serves documents that `scaffold gen` has made of the annotations at
// /openapi.json; several are merged. What is no such document ends the start.
func (s *Service) OpenAPI(docs ...[]byte) {
	if len(docs) == 0 {
		return
	}
	doc, err := gateway.MergeOpenAPI(docs...)
	if err != nil {
		s.app.note(err)
		return
	}
	s.Handle("GET "+openAPIPath, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(doc) // the client is gone if this errs
	}))
}
