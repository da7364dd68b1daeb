package client

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

// BreakerError is the error of a call that the breaker held back. It was not
// sent to anybody, and its code is UNAVAILABLE.
type BreakerError struct {
	// Service is the name of the called service, Method the method's own name.
	Service, Method string
	// Sent and Refused count the attempts of the last [breaker.Window].
	Sent, Refused int64
	// Reject is the part of the calls that is held back, from 0 to 1.
	Reject float64
}

// Error says what was held back, why, and where to look.
func (e *BreakerError) Error() string {
	return fmt.Sprintf("breaker: %s/%s held back: its instances refused %d of the %d attempts of the last %s (UNAVAILABLE, RESOURCE_EXHAUSTED), so %.0f%% of the calls are not sent; look at the load and the health of %s",
		e.Service, e.Method, e.Refused, e.Sent, breaker.Window, e.Reject*100, e.Service)
}

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

// class is what an outcome means to each of the policies.
type class struct {
	retry    retry.Outcome
	breaker  breaker.Outcome
	balancer balancer.Outcome
}

// classify is the one place where codes become outcomes.
func classify(err error) class {
	switch middleware.Code(err) {
	case codes.OK:
		return class{retry.OK, breaker.Accepted, balancer.Succeeded}
	case codes.Unavailable:
		return class{retry.Unavailable, breaker.Refused, balancer.Failed}
	case codes.ResourceExhausted:
		// Shedding load is the instance's right, not its fault.
		return class{retry.Overloaded, breaker.Refused, balancer.Ignored}
	case codes.DeadlineExceeded:
		return class{retry.Timeout, breaker.Accepted, balancer.Failed}
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return class{retry.Broken, breaker.Accepted, balancer.Failed}
	case codes.Canceled:
		return class{retry.Canceled, breaker.Neutral, balancer.Ignored}
	default: // the same answer is to be had everywhere
		return class{retry.Final, breaker.Accepted, balancer.Succeeded}
	}
}
