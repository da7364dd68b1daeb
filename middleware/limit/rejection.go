package limit

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
)

// Domain is that of the google.rpc.ErrorInfo in rejections. Its reason is the [Reason]
// in capitals; for a rate its metadata has the name under the key "rate".
const Domain = apierror.Domain("plinth.internal")

// rateKey is the key of the metadata with the name of a rate.
const rateKey = "rate"

// RejectedError is the error of a call that was turned away. Its code is
// RESOURCE_EXHAUSTED.
type RejectedError struct {
	// Reason is why.
	Reason Reason
	// Rate is the name of the [Rate] that is used up, "" for other reasons.
	Rate string

	status *status.Status
}

// newRejected makes an error for many calls: what turns calls away has little time.
func newRejected(r Reason, rate string) *RejectedError {
	text := map[Reason]string{
		InFlight:    "this instance has as many calls in flight as it can serve in time",
		Criticality: "this instance keeps what room it has for calls that matter more",
		CallerShare: "this instance has not enough for all, and this caller asks for more than its share",
		RateMethod:  "more calls of this method come than are allowed",
		RateCaller:  "this caller makes more calls than it is allowed to",
	}[r]
	var options []apierror.Option
	if rate != "" {
		text += " (rate " + rate + ")"
		options = append(options, apierror.Metadata(rateKey, rate))
	}
	e := Domain.New(codes.ResourceExhausted, strings.ToUpper(string(r)), "the call was turned away ("+string(r)+"): "+text, options...)
	return &RejectedError{r, rate, e.GRPCStatus()}
}

// Error says why.
func (e *RejectedError) Error() string { return e.status.Message() }

// GRPCStatus gives the error its code, for the status package of grpc, and a
// google.rpc.ErrorInfo in [Domain].
func (e *RejectedError) GRPCStatus() *status.Status { return e.status }

// Unprocessed says that nothing was done for the call; see
// [plinth.internal/middleware.IsUnprocessed].
func (e *RejectedError) Unprocessed() bool { return true }
