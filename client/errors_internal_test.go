package client

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
)

// TestCodeDecides: an error that a handler made on purpose means to the policies
// what its code means, whatever it says about retrying.
func TestCodeDecides(t *testing.T) {
	const shop = apierror.Domain("shop.example.com")
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		want := classify(status.Error(code, "x"))
		for name, err := range map[string]error{
			"typed":         shop.New(code, "X", "x"),
			"wrapped":       fmt.Errorf("get: %w", shop.New(code, "X", "x")),
			"retryable":     shop.New(code, "X", "x", apierror.Retryable(0)),
			"not retryable": shop.New(code, "X", "x", apierror.NotRetryable()),
			"sent":          status.FromProto(shop.New(code, "X", "x").GRPCStatus().Proto()).Err(),
			"marked":        middleware.NoRetry(shop.New(code, "X", "x")),
		} {
			if got := classify(err); got != want {
				t.Errorf("%v, %s: %+v, want %+v", code, name, got, want)
			}
		}
	}
}
