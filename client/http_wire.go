package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// errWritten keeps a request from being written to a second connection.
var errWritten = errors.New("the connection was lost after the request was written")

// wire is the way of one attempt through net/http, which sends a GET, or what has
// an Idempotency-Key, again by itself when a kept connection ends without an
// answer, once for every connection that it keeps. Nobody would count those, pay
// for them or know of them. On a wire a request is written to one connection; only
// as long as nothing was written may it go to another one.
type wire struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	detach func() bool // from the client's end

	conn   atomic.Pointer[freshConn] // what the request is written to, nil = nothing is written
	dials  atomic.Bool               // a connection is being made for it
	heard  atomic.Bool               // something was answered
	broken atomic.Bool               // the connection did not take all of the request
	own    atomic.Pointer[error]     // why the caller's request could not be written
	body   *requestBody              // nil where net/http knows the whole body
}

func newWire(ctx context.Context) *wire {
	w := &wire{}
	ctx, w.cancel = context.WithCancelCause(ctx)
	w.ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: w.get, GotConn: w.got, WroteRequest: w.wrote})
	return w
}

// endWith ends what the wire carries when the service's client is closed.
func (w *wire) endWith(s *service) {
	w.detach = context.AfterFunc(s.client.ctx, func() { w.cancel(s.closed()) })
}

// end is called when the attempt has ended.
func (w *wire) end() {
	if w.detach != nil {
		w.detach()
	}
	w.cancel(nil)
	if c := w.conn.Load(); c != nil {
		c.wire.CompareAndSwap(w, nil)
	}
}

// written tells whether a part of the request may have reached the instance.
func (w *wire) written() bool { return w.conn.Load() != nil }

// get is told that a connection is looked for.
func (w *wire) get(string) {
	if w.written() {
		w.cancel(errWritten)
	}
}

// got notes which connection net/http has picked.
func (w *wire) got(info httptrace.GotConnInfo) {
	if c, ok := info.Conn.(*freshConn); ok {
		c.wire.Store(w)
	}
}

// carry watches the request's body. What can be had again is in memory, and net/http
// writes it together with the head if it sees that.
func (w *wire) carry(r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		w.body = &requestBody{ReadCloser: r.Body, ctx: w.ctx}
		r.Body = w.body
	}
}

// wrote is told of the end of the request. An error that is none of the connection
// is the caller's, and would be the same on every other one.
func (w *wire) wrote(info httptrace.WroteRequestInfo) {
	err := info.Err
	if err == nil || w.broken.Load() {
		return
	}
	if w.body != nil {
		if p := w.body.err.Load(); p != nil {
			err = *p // net/http's cannot be unwrapped
		}
	}
	w.own.Store(&err)
	w.cancel(err)
}

// mistaken tells whether the attempt has failed by its caller's doing, so that it
// says nothing about anybody else.
func (w *wire) mistaken(err error) bool {
	return w.own.Load() != nil || w.body != nil && middleware.Code(err) == codes.DeadlineExceeded && w.body.owed()
}

// write writes a part of the request.
func (w *wire) write(c *freshConn, b []byte) (int, error) {
	first := w.conn.Load()
	if first == nil && c.closed() { // later it may have answered what it has not read to the end
		w.broken.Store(true)
		return 0, errPeerClosed
	}
	if first != nil && first != c {
		w.broken.Store(true)
		w.cancel(errWritten)
		return 0, errWritten
	}
	w.broken.Store(false) // by the connection before
	w.conn.Store(c)       // before there can be an answer
	n, err := c.send(b)
	if err != nil {
		w.broken.Store(true)
		if n == 0 {
			w.conn.Store(first)
		}
	}
	return n, err
}

// read is told of what was read from a connection that the wire has got. If it
// ends without an answer the request must not go to the next one.
func (w *wire) read(c *freshConn, n int, err error) {
	switch {
	case w.conn.Load() != c:
	case n > 0:
		w.heard.Store(true)
	case err != nil && !w.heard.Load() && !w.broken.Load():
		w.cancel(fmt.Errorf("the connection ended before an answer came: %w", err))
	}
}
