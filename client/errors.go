package client

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

// BreakerError is the error of a call that the breaker held back. It was not
// sent to anybody, and its code is UNAVAILABLE.
type BreakerError struct {
	// Service is the name of the called service, Method the method's own name.
	Service, Method string
	// Rejection is why, and what the breaker decided from.
	Rejection *breaker.Rejection
}

// Error says what was held back, why, and where to look.
func (e *BreakerError) Error() string {
	return fmt.Sprintf("breaker: %s/%s held back: %s; look at the load and the health of %s", e.Service, e.Method, e.Rejection, e.Service)
}

// Unwrap gives the breaker's own error.
func (e *BreakerError) Unwrap() error { return e.Rejection }

// GRPCStatus gives the error its code, for the status package of grpc.
func (e *BreakerError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.Error())
}

// unreachableError is an HTTP attempt that got no response.
type unreachableError struct {
	service, instance, addr string
	err                     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("call instance %s of %q at %s: %v", e.instance, e.service, e.addr, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

func (e *unreachableError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.Error())
}

// errRefused stands for an attempt whose connection was refused.
var errRefused = status.Error(codes.Unavailable, "connection refused")

// class is what an outcome means to each of the policies.
type class struct {
	retry    retry.Outcome
	breaker  breaker.Outcome
	balancer balancer.Outcome
	outlier  outlier.Outcome
}

// classify is the one place where codes become outcomes. The code decides alone:
// that a handler has made an error on purpose (apierror) does not excuse its
// instance, because a broken one says INTERNAL on purpose too, as fast as it can,
// and an error that all instances make ejects none of them. What a handler says
// about retrying is the retry's business, not the ejector's.
func classify(err error) class {
	switch middleware.Code(err) {
	case codes.OK:
		return class{retry.OK, breaker.Accepted, balancer.Succeeded, outlier.Succeeded}
	case codes.Unavailable:
		return class{retry.Unavailable, breaker.Refused, balancer.Failed, outlier.Failed}
	case codes.ResourceExhausted:
		// Shedding load is the instance's right: nobody is ejected for it. But
		// it is fast, and must not draw more calls for that.
		return class{retry.Overloaded, breaker.Refused, balancer.Refused, outlier.Ignored}
	case codes.DeadlineExceeded:
		return class{retry.Timeout, breaker.Failed, balancer.Failed, outlier.Failed}
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return class{retry.Broken, breaker.Failed, balancer.Failed, outlier.Failed}
	case codes.Canceled:
		return class{retry.Canceled, breaker.Neutral, balancer.Ignored, outlier.Ignored}
	default: // the same answer is to be had everywhere
		return class{retry.Final, breaker.Accepted, balancer.Succeeded, outlier.Succeeded}
	}
}
