package client

import (
	"time"

	"plinth.internal/client/retry"
	"plinth.internal/registry"
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
	// Source says where the list comes from.
	Source registry.Source
	// At is when the registry last confirmed the list; zero for a fallback.
	At time.Time
	// Instances is how many instances can be picked.
	Instances int
	// Listed is how many the list holds, with those that drain or have no
	// endpoint for the protocol.
	Listed int
	// Quarantined is how many of those the registry has lost: they are called
	// for as long as they answer.
	Quarantined int
}

// ViewFailed says that the registry has begun to fail. The end of it is a
// [ViewChanged].
type ViewFailed struct {
	// Service and Protocol are as in [ViewChanged].
	Service, Protocol string
	// Registry is the kind of the registry ("etcd").
	Registry string
	// Kept is how many instances there are in the list that is used meanwhile.
	Kept int
	// Source and At are of that list, as in [ViewChanged]; Source is "" if there
	// is none.
	Source registry.Source
	At     time.Time
	// Err is what the registry says.
	Err error
}

// LastResort says that no instance of a service wants calls, and that therefore
// those are called that are connected but say they are not serving, or drain. It
// is told with the first such call.
type LastResort struct {
	// Service is the name of the service.
	Service string
	// Instances is how many can be called so.
	Instances int
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
func (LastResort) event()   {}
func (CallRetried) event()  {}
func (CallGaveUp) event()   {}
func (CallRejected) event() {}
