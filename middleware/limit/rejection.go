package limit

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RejectedError is the error of a call that was turned away. Its code is
// RESOURCE_EXHAUSTED.
type RejectedError struct {
	// Reason is why.
	Reason Reason

	status *status.Status
}

func newRejected(r Reason) *RejectedError {
	text := map[Reason]string{
		InFlight:    "this instance has as many calls in flight as it can serve in time",
		Criticality: "this instance keeps what room it has for calls that matter more",
		CallerShare: "this instance has not enough for all, and this caller asks for more than its share",
		RateMethod:  "more calls of this method come than are allowed",
		RateCaller:  "this caller makes more calls than it is allowed to",
	}[r]
	return &RejectedError{r, status.New(codes.ResourceExhausted, "the call was turned away ("+string(r)+"): "+text)}
}

// Error says why.
func (e *RejectedError) Error() string { return e.status.Message() }

// GRPCStatus gives the error its code, for the status package of grpc.
func (e *RejectedError) GRPCStatus() *status.Status { return e.status }

// Unprocessed says that nothing was done for the call; see
// [plinth.internal/middleware.IsUnprocessed].
func (e *RejectedError) Unprocessed() bool { return true }
