package client

import (
	"time"

	"plinth.internal/client/retry"
)

// Event is something that a client has done or found out: one of the types
// below.
type Event interface{ event() }

// ViewChanged says that a list of instances is in use from now on.
type ViewChanged struct {
	// Service is the name of the service.
	Service string
	// Protocol is "grpc" or "http": whose endpoints are meant.
	Protocol string
	// First is set for the first list that is known.
	First bool
	// Instances is how many instances can be picked.
	Instances int
	// Listed is how many the registry lists, with those that drain or have no
	// endpoint for the protocol.
	Listed int
}

// ViewFailed says that the registry has begun to fail. The end of it is a
// [ViewChanged].
type ViewFailed struct {
	// Service and Protocol are as in [ViewChanged].
	Service, Protocol string
	// Registry is the kind of the registry ("etcd").
	Registry string
	// Kept is how many instances stay in use from the list known last.
	Kept int
	// Err is what the registry says.
	Err error
}

// CallRetried says that another attempt of a call will be made.
type CallRetried struct {
	// Service is the name of the called service, Method the method's own name.
	Service, Method string
	// Attempt is the number of the attempt that failed, 1 for the first.
	Attempt int
	// Instance is the ID of the instance that it failed on, "" if none was reached.
	Instance string
	// Delay is how long the next attempt waits.
	Delay time.Duration
	// Reason is why a retry is right.
	Reason retry.Reason
	// Err is the outcome of the attempt.
	Err error
}

// CallGaveUp says that a call failed although a retry would have been allowed
// by its kind: attempts, time or budget are used up, or the server forbade it.
type CallGaveUp struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// Attempts is how many were made.
	Attempts int
	// Reason is what stood against a retry.
	Reason retry.Reason
	// Err is the outcome of the last attempt.
	Err error
}

// CallRejected says that the breaker held an attempt back.
type CallRejected struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// Err is what the caller gets.
	Err *BreakerError
}

func (ViewChanged) event()  {}
func (ViewFailed) event()   {}
func (CallRetried) event()  {}
func (CallGaveUp) event()   {}
func (CallRejected) event() {}
