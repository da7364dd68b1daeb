package middleware

import (
	"errors"

	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
)

// HeaderNoRetry is the response header (HTTP) or trailer (gRPC) that says: a
// layer below has tried again already, or was asked not to; do not try again.
// Its value is "1".
const HeaderNoRetry = "plinth-no-retry"

// NoRetry marks an error as one that must not be retried by the layers above
// (SRE, ch. 21: only the layer next to a failure retries). Text, status and
// chain of the error stay what they are. Nil stays nil.
//
// The client marks its errors where it has used up its retries. The mark lasts
// as long as the error is returned as it is or wrapped with %w: a server adapter
// that is given such an error sends [HeaderNoRetry] to its caller. A handler that
// makes a new status of the error's text has thereby decided anew, and the mark
// is gone.
func NoRetry(err error) error {
	if err == nil || IsNoRetry(err) {
		return err
	}
	return &noRetryError{err}
}

// IsNoRetry reports whether an error in the chain of err was marked by [NoRetry],
// or made with [apierror.NotRetryable]. A mark on the cause of an error that was
// made with [apierror.Retryable] does not count: its maker has decided anew.
func IsNoRetry(err error) bool {
	mark, marked := errors.AsType[*noRetryError](err)
	e, typed := errors.AsType[*apierror.Error](err)
	if !typed {
		return marked
	}
	if e.NoRetry() {
		return true
	}
	if _, anew := e.RetryAfter(); anew && marked {
		within, ok := errors.AsType[*noRetryError](e.Unwrap())
		return !ok || within != mark
	}
	return marked
}

type noRetryError struct{ err error }

func (e *noRetryError) Error() string              { return e.err.Error() }
func (e *noRetryError) Unwrap() error              { return e.err }
func (e *noRetryError) GRPCStatus() *status.Status { return Status(e.err) }
