package registry

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrReadOnly is returned by [Registry.Announce] when the backend only
	// lists instances, as registry/static does.
	ErrReadOnly = errors.New("registry is read-only")
	// ErrClosed is returned by the methods of a [Registry] that was closed.
	ErrClosed = errors.New("registry is closed")
)

// Driver is what a backend has to do; [Registry] does the rest. Its methods
// may be called concurrently, except Close, which is called once, after all
// other calls have returned and all registrations were withdrawn or lost.
//
// A driver neither retries a failed operation nor keeps old lists: it returns
// the error, and Registry decides. Every method returns promptly when its
// context ends. A driver never logs.
type Driver interface {
	// Kind is the name of the backend, such as "etcd". It is constant.
	Kind() string

	// Register puts the instance, which is valid and has its defaults, into
	// the backend, in place of an entry with the same service and ID if there
	// is one. When it returns nil, a list taken from the backend from now on
	// has the instance.
	//
	// The entry is to disappear by itself about ttl after this process died.
	// The context bounds only the call: the entry lives on until Withdraw, and
	// it is the driver's task to keep it alive. A call that returns an error
	// leaves nothing behind that lives longer than ttl. A backend that cannot
	// be written returns [ErrReadOnly].
	Register(ctx context.Context, inst Instance, ttl time.Duration) (Registration, error)

	// Watch calls emit with the complete list of the service's instances: once
	// as soon as it is known, and then after each change, in order. It blocks
	// until ctx ends or until it can no longer promise that changes are seen,
	// and returns why; Registry then calls it again, and it starts over with a
	// complete list. An unknown service has an empty list, which is no error.
	//
	// Emit holds its caller for up to 100 milliseconds, but not after ctx has
	// ended: changes that happen meanwhile are to be taken as one. It is called
	// by one goroutine at a time and not after Watch returned. The list belongs to Registry afterwards; what its
	// instances refer to must not be changed any more. Calling emit with an
	// unchanged list confirms that list, and is welcome.
	Watch(ctx context.Context, service string, emit func(List)) error

	// Close ends the driver's goroutines. It does not close what the driver
	// was given, such as a client.
	Close() error
}

// Reachable is an optional part of a [Driver]: one that knows when a lost
// connection to its backend is there again. Registry then tries again soon
// instead of waiting for its backoff to end.
type Reachable interface {
	// Reachable returns a channel that is closed when the backend becomes
	// reachable the next time.
	Reachable() <-chan struct{}
}

// Scoped is an optional part of a [Driver]: one whose backend is divided into
// parts that do not see each other.
type Scoped interface {
	// Scope names the part that the driver uses, such as "/plinth". It is
	// constant. Lists that are kept on disk are kept for each scope.
	Scope() string
}

// Overrider is an optional part of a [Driver]: one whose backend also holds
// what an operator wants of an instance.
type Overrider interface {
	// WatchOverride calls emit with the stored [Override] of an instance, nil
	// if there is none: once as soon as that is known, and then after each
	// change. It blocks until ctx ends or until it can no longer promise that
	// changes are seen, and returns why; Registry then calls it again.
	//
	// Nil means that nobody wants anything any more. A backend that lost its
	// data has not been told so: the driver then puts the value back that it
	// saw last.
	WatchOverride(ctx context.Context, service, id string, emit func(value []byte)) error

	// ClearOverride deletes the override of an instance. It is no error if
	// there is none.
	ClearOverride(ctx context.Context, service, id string) error
}

// Registration is an entry that a [Driver] keeps alive. Update and Withdraw
// are called by one goroutine.
type Registration interface {
	// Update changes the entry to inst, which has the same service and ID.
	// When the outcome of an earlier Update is not known, the later one wins.
	Update(ctx context.Context, inst Instance) error

	// Lost is closed once the entry is known to be gone, or to be no longer
	// the one that was registered: it expired, or somebody deleted or changed
	// it. A backend that cannot be reached has lost the entry when ttl has
	// passed since it was last known to be there. The driver itself clears
	// away what may be left of a lost entry; Registry registers it anew, and
	// calls neither Update nor Withdraw after it has seen the loss.
	Lost() <-chan struct{}

	// Err says why the entry is lost; nil before Lost is closed.
	Err() error

	// Withdraw removes the entry and ends what kept it alive. When it returns
	// nil, the entry is not in the backend, except that an entry which by now
	// belongs to somebody else stays. It ends the keeping alive even if it
	// returns an error.
	//
	// Registry has tried to mark the entry as [Draining] just before, so that
	// everybody who watches can tell this from a crash. A driver whose watches
	// may miss a mark that is there for a moment only finds a way to name the
	// ID in [List.Withdrawn].
	Withdraw(ctx context.Context) error
}

// List is the complete list of a service's instances as a [Driver] sees it.
type List struct {
	// Instances are in any order, with one entry per ID.
	Instances []Instance
	// Revision is the backend's own number for this state of it; zero if it
	// has none.
	Revision int64
	// Skipped are the entries that are not instances.
	Skipped []Skipped
	// Withdrawn are IDs of instances that are known to have been withdrawn on
	// purpose since the list before: their entries were deleted while they were
	// marked as [Draining]. An instance that is missing and is not among them
	// is put in quarantine, unless the list before this one showed it as
	// draining. IDs that nobody knows, or that have been named before, do no
	// harm; an ID that is in Instances is ignored.
	Withdrawn []string
	// Explicit says that whoever is missing was taken out on purpose, as in a
	// file that a person edits: then nobody is put in quarantine.
	Explicit bool
}

// Skipped is an entry of a list that cannot be used.
type Skipped struct {
	// Key names the entry in the backend.
	Key string
	// Err says what is wrong with it.
	Err error
}
