package deadline

import "context"

// Causes of the end of a context at a deadline that this side of a call has set.
// Each is a [context.DeadlineExceeded].
var (
	// ErrTimeout means that the timeout for the call was over.
	ErrTimeout error = overdue("the timeout for the call is over")
	// ErrServed means that the call was made to serve another one, whose
	// deadline was too near.
	ErrServed error = overdue("the deadline of the call that is served is over")
	// ErrAttempt means that the timeout for one attempt of the call was over. It is
	// for middlewares that make attempts.
	ErrAttempt error = overdue("the timeout for one attempt of the call is over")
)

type overdue string

func (o overdue) Error() string { return string(o) + ": " + context.DeadlineExceeded.Error() }
func (overdue) Unwrap() error   { return context.DeadlineExceeded }
func (overdue) Timeout() bool   { return true } // as of context.DeadlineExceeded, for net.Error
func (overdue) Temporary() bool { return true }
