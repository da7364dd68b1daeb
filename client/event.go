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
	// Protocol is "grpc", "http" or "netrpc": whose endpoints are meant.
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
	// Instance is the ID of the instance that the last one failed on.
	Instance string
	// Reason is what stood against a retry.
	Reason retry.Reason
	// Err is the outcome of the last attempt.
	Err error
}

// CallFailed says that a call failed which is of a kind that is not repeated: its
// method is not idempotent, or it is a stream or has a body that is gone. An error
// that the caller caused is none of these.
type CallFailed struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// Instance is the ID of the instance that it failed on.
	Instance string
	// Reason is what stood against a retry.
	Reason retry.Reason
	// Err is the outcome.
	Err error
}

// CallRejected says that the breaker held an attempt back.
type CallRejected struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// Err is what the caller gets.
	Err *BreakerError
}

// CallUnplaced says that a call failed because nobody could be called: there is no
// instance, or none could be connected to in time.
type CallUnplaced struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// Err is what the caller gets.
	Err error
}

// CallBounced says that an instance handed an attempt back because it is busier
// than the others, and that another one is asked. Nothing has failed.
type CallBounced struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// Instance is the ID of the instance that is too busy.
	Instance string
}

// CallHedged says that a slow call was sent a second time, and how that ended.
type CallHedged struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// After is how long the first attempt had taken.
	After time.Duration
	// Won is set if the second attempt's answer was the one that was used.
	Won bool
}

// InstanceEjected says that an instance is kept from calls for its results.
type InstanceEjected struct {
	// Service and Protocol are as in [ViewChanged].
	Service, Protocol string
	// Instance is the instance's ID, Addr the address it is judged by.
	Instance, Addr string
	// Reason is why, in a word or two.
	Reason string
	// Share is the part of its calls that failed lately, from 0 to 1, and Run is
	// how many failed in a row; 0 where a trial decided.
	Share float64
	Run   int
	// For is how long it is kept out; then one call may try whether it is well.
	For time.Duration
	// Times is how often in a row it was kept out, 1 for the first time.
	Times int
	// KeptOut is false while so many are ejected that nobody is kept out.
	KeptOut bool
}

// ConnectionFailed says that no connection to an instance could be made, be it
// that nobody listens there or that TLS was refused on either side. Others take the
// calls, so that no call may speak of it. It is told once a minute for an instance.
type ConnectionFailed struct {
	// Service and Protocol are as in [ViewChanged].
	Service, Protocol string
	// Instance is the instance's ID, Addr the address that was connected to.
	Instance, Addr string
	// Err is why.
	Err error
}

// InstanceReturned says that an ejected instance has answered its trial call,
// and has its share of the calls again.
type InstanceReturned struct {
	// Service and Protocol are as in [ViewChanged].
	Service, Protocol string
	// Instance and Addr are as in [InstanceEjected].
	Instance, Addr string
}

// RouteFellBack says that no instance was left for an attempt of a call by a
// rule's choice; or that none was left for an ordinary call but those that rules
// reserve. It is told for each such attempt.
type RouteFellBack struct {
	// Service and Protocol are as in [ViewChanged].
	Service, Protocol string
	// Route is the name of the rule, [route.Ordinary] for calls that match none.
	Route string
	// Wanted says which instances were looked for.
	Wanted string
	// Reason is why there was none.
	Reason RouteReason
	// Failed is set where the attempt failed for it; else another instance
	// takes it.
	Failed bool
	// First is set for the first one since there was somebody.
	First bool
}

// RouteReason is why no instance was left for a call.
type RouteReason string

const (
	// RouteNobody means that no instance in the list is what was looked for.
	RouteNobody RouteReason = "nobody"
	// RouteUncallable means that those that are cannot be called: they are not
	// connected, not healthy, ejected, or drain.
	RouteUncallable RouteReason = "uncallable"
	// RouteTried means that those that can be called have failed in this call.
	RouteTried RouteReason = "tried"
)

// TLSReloaded says that changed files for TLS are in use for new connections.
type TLSReloaded struct {
	// Services are those that the files are for.
	Services []string
	// Files are their names, separated by commas.
	Files string
	// NotAfter is when the certificate expires, zero for none.
	NotAfter time.Time
}

// TLSRejected says that changed files for TLS are not good, or that the certificate
// in use has expired. What they held before stays in use; without any such there
// are no connections.
type TLSRejected struct {
	// Services and Files are as in [TLSReloaded].
	Services []string
	Files    string
	// Err says which file, and what is wrong.
	Err error
	// Kept is set where there are good ones that stay in use.
	Kept bool
}

// TokenExposed says that tokens for a service are sent without TLS, as its settings
// want it. It is told with the first one.
type TokenExposed struct {
	// Service is the name of the service.
	Service string
}

// TokenRejected says that the file with the token for a service cannot be used. What
// it held last stays in use.
type TokenRejected struct {
	// Service is the name of the service, File that of the file.
	Service, File string
	// Err is why.
	Err error
}

// MiddlewarePanicked says that a middleware has panicked in an HTTP call or a stream
// over gRPC, which run in goroutines of their own. Where the caller waits the call
// fails with a [middleware.PanicError]; if it has its response or stream nobody else
// learns of it. Over other transports such a panic is the caller's.
type MiddlewarePanicked struct {
	// Service and Method are as in [CallRetried].
	Service, Method string
	// TraceID is that of the call, "" without one.
	TraceID string
	// Value is what it panicked with, Stack where.
	Value any
	Stack []byte
}

func (MiddlewarePanicked) event() {}

func (TokenExposed) event()     {}
func (TokenRejected) event()    {}
func (TLSReloaded) event()      {}
func (TLSRejected) event()      {}
func (ViewChanged) event()      {}
func (ViewFailed) event()       {}
func (LastResort) event()       {}
func (CallRetried) event()      {}
func (CallGaveUp) event()       {}
func (CallFailed) event()       {}
func (CallRejected) event()     {}
func (CallUnplaced) event()     {}
func (CallBounced) event()      {}
func (CallHedged) event()       {}
func (InstanceEjected) event()  {}
func (InstanceReturned) event() {}
func (ConnectionFailed) event() {}
func (RouteFellBack) event()    {}
