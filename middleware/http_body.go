package middleware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// errUnread is the outcome of a call whose deadline passed while its caller was not
// reading the response: the server may have sent all of it. Its code is CANCELED, as
// for whatever the caller gives up.
var errUnread = fmt.Errorf("read HTTP response: its caller had not read it to the end when the deadline passed: %w", context.Canceled)

// watchedBody tells when the caller has finished with a response body.
type watchedBody struct {
	io.ReadCloser

	ctx  context.Context // of the attempt
	once sync.Once
	done chan struct{}
	err  error // written before done is closed

	// waits is true while the caller waits for the server, and stays it where the
	// wait has failed. What begins after the deadline is no wait.
	waits atomic.Bool
}

func (b *watchedBody) finish(err error) {
	b.once.Do(func() {
		b.err = err
		close(b.done)
	})
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.ctx.Err() == nil {
		b.waits.Store(true)
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
		b.waits.Store(false)
	case errors.Is(err, io.EOF):
		b.finish(nil)
	default:
		b.finish(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.finish(nil)
	return err
}

// wait waits until the caller has finished with the body, or its time is over.
func (b *watchedBody) wait() error {
	select {
	case <-b.done:
	case <-b.ctx.Done():
	}
	err := contextError(b.ctx)
	late := errors.Is(err, context.DeadlineExceeded) && !b.waits.Load()
	select {
	case <-b.done:
		if b.err == nil {
			return nil
		}
		err = withContextError(b.ctx, b.err)
	default:
	}
	if late {
		return errUnread
	}
	return err
}
