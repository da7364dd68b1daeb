package client

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// roundTrip sends a request and returns when its context ends, also where the
// caller's body has nothing to say then. An http.Transport gives the connection up
// and waits for a Read of the body that is under way, for as long as that takes.
// It goes on to wait here, behind the caller's back, and closes the body after it.
func roundTrip(t *http.Transport, r *http.Request) (*http.Response, error) {
	if inMemory(r) {
		return t.RoundTrip(r)
	}
	ctx := r.Context()
	body := &blockingBody{ReadCloser: r.Body, ctx: ctx}
	out := *r
	out.Body = body
	type result struct {
		resp *http.Response
		err  error
	}
	done, left := make(chan result), make(chan struct{})
	go func() {
		resp, err := t.RoundTrip(&out)
		select {
		case done <- result{resp, err}:
		case <-left:
			if err == nil {
				_ = resp.Body.Close()
			}
		}
	}()
	select {
	case got := <-done:
		return got.resp, got.err
	case <-ctx.Done():
	}
	if body.reading.Load() {
		close(left)
		return nil, ctx.Err()
	}
	got := <-done // at once: nothing is read any more
	return got.resp, got.err
}

// inMemory tells whether a Read of the body cannot block, as far as one can know:
// those that net/http has made itself have a length and can be had again.
func inMemory(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil && r.ContentLength > 0
}

// blockingBody knows whether it is being read, and begins no Read after its time.
type blockingBody struct {
	io.ReadCloser

	ctx     context.Context
	reading atomic.Bool
}

func (b *blockingBody) Read(p []byte) (int, error) {
	b.reading.Store(true) // before the look at the context, see roundTrip
	defer b.reading.Store(false)
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}
