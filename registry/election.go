package registry

import "context"

// Elector makes one process out of many the leader, for work that only one of
// them may do. Backends that can do it have a NewElector function; the registry
// itself needs no leader.
//
// Implementations may be used by several goroutines at once. They guarantee
// that of two candidates that look at their Lost channels no two lead at the
// same time, as long as the store keeps what it was given, the clocks of
// machines run at about the same speed, and a leader ends its work when Lost is
// closed, within the time that the implementation names. A process that was
// stopped cannot look: what must never be done twice needs [Leadership.Fence].
type Elector interface {
	// Campaign stands for the leadership of that name and returns when this
	// candidate leads. It returns an error when ctx ends, and when the
	// candidacy fails; the caller then waits for a while and stands again. The
	// name may have slashes in it; the candidate is told to people who look
	// into the store. Candidates lead in the order in which they stood.
	Campaign(ctx context.Context, name, candidate string) (Leadership, error)
}

// Leadership is what a successful candidate has until it is lost or resigned.
type Leadership interface {
	// Fence is greater than that of every earlier leader of this name. A store
	// that keeps the greatest fence it has seen, and refuses writes with a
	// smaller one, is safe from a leader that has not noticed its loss.
	Fence() int64
	// Lost is closed when the work must end, well before another candidate can
	// lead. It stays open after Resign.
	Lost() <-chan struct{}
	// Err is why it is lost; nil before.
	Err() error
	// Resign gives the leadership up, so that the next candidate leads at once.
	// It must be called once, when the work has ended, also after a loss. An
	// error means that the next candidate has to wait until the store finds out
	// by itself.
	Resign(ctx context.Context) error
}
