package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"plinth.internal/middleware"
	"plinth.internal/server/gateway"
	"plinth.internal/server/gateway/testdata/restv1"
)

// backend answers every call with one note.
type backend struct{ grpc.ClientConnInterface }

func (backend) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	proto.Merge(reply.(proto.Message), &restv1.Note{Text: "hello"})
	return nil
}

// A gateway in front of a connection; server.Server puts one in front of its own
// handlers.
func Example() {
	g := gateway.New(gateway.Config{
		Conn: gateway.Guard(backend{}),
		Around: func(method string, serve middleware.HTTPHandler) http.Handler {
			return middleware.HTTPServerFunc("notes", method, serve, nil)
		},
		Unmatched: func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) },
	})
	if err := g.Register(context.Background(), restv1.RestRoutes); err != nil {
		fmt.Println(err)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/notes/a", http.NoBody))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 application/json
}
