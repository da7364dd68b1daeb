package apierror_test

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
)

// errs is the domain of a service's errors, declared once.
const errs = apierror.Domain("orders.example.com")

func Example() {
	// A handler returns:
	made := errs.New(codes.FailedPrecondition, "OUT_OF_STOCK", "there are only 2 left", apierror.Metadata("left", "2"))

	// Its caller, in another process, has:
	err := status.FromProto(made.GRPCStatus().Proto()).Err()
	if errs.Is(err, "OUT_OF_STOCK") {
		e, _ := apierror.From(err)
		fmt.Println(e.Message(), e.Metadata()["left"])
	}
	// Output: there are only 2 left 2
}
