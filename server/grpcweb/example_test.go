package grpcweb_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/server/grpcweb"
)

// echo answers with what it is sent.
type echo struct{}

func (echo) Serve(_ string, ss grpc.ServerStream) error {
	m := new(wrapperspb.StringValue)
	if err := ss.RecvMsg(m); err != nil {
		return err
	}
	return ss.SendMsg(m)
}

// A handler for gRPC-Web; server.Server has one where it is told to.
func Example() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := grpcweb.Serve(echo{}, r.URL.Path, w, r); err != nil {
			fmt.Println(err)
		}
	})
	r := httptest.NewRequest(http.MethodPost, "/test.v1.Echo/Say", strings.NewReader("\x00\x00\x00\x00\x04\x0a\x02hi"))
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Printf("%q\n", w.Body)
	// Output: "\x00\x00\x00\x00\x04\n\x02hi\x80\x00\x00\x00\x10grpc-status: 0\r\n"
}
