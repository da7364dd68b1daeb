package validate_test

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/middleware"
	"plinth.internal/middleware/validate"
)

func Example() {
	v := validate.New()
	// A server without the framework takes it as interceptors; with it,
	// framework.WithValidator(v) is all.
	s := grpc.NewServer(
		grpc.UnaryInterceptor(middleware.ValidateUnary(v)),
		grpc.StreamInterceptor(middleware.ValidateStream(v)),
	)
	defer s.Stop()
	fmt.Println(v.Validate(wrapperspb.String("a message without rules")))
	// Output: <nil>
}
