package client

import (
	"context"
	"errors"
	"time"

	"plinth.internal/middleware/deadline"
)

// patient gives the attempt a time that ends with the head of a response: from then on
// nothing can be repeated, and to end it early would only cut the body. What it
// returns is to be called at the end of the attempt.
func (a *attempt) patient(d time.Duration) context.CancelFunc {
	ctx, cancel := context.WithCancelCause(a.Context)
	a.Context = ctx
	a.http.until = time.Now().Add(d)
	a.http.timer = time.AfterFunc(d, func() { cancel(deadline.ErrAttempt) })
	return func() {
		a.http.timer.Stop()
		cancel(nil)
	}
}

// Deadline is the attempt's own, if it has one that is earlier than the call's.
func (a *attempt) Deadline() (time.Time, bool) {
	d, ok := a.Context.Deadline()
	if h := a.http; h != nil && !h.until.IsZero() && (!ok || h.until.Before(d)) {
		return h.until, true
	}
	return d, ok
}

// ended is the error of a context that has ended. That the time of an attempt was over
// is in its cause.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}
