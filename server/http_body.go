package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"plinth.internal/middleware"
)

// MinRate is how fast a body has to come once HTTPConfig.ReadTimeout is used up,
// in bytes a second.
const MinRate = 4 << 10

// writePiece is how much of a response is written in one go: the time for it
// must not depend on how much a handler writes at once.
const writePiece = 64 << 10

// bound arms the connection of an HTTP/1 request, before anything runs. net/http
// itself reads what is left of a body, without a limit of time, before it answers
// a request whose handler has not read it.
func (w *web) bound(rw http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(rw)
	_ = rc.SetWriteDeadline(time.Time{}) // of the request before; it cannot be set in tests only
	if w.cfg.ReadTimeout > 0 && r.ContentLength != 0 {
		_ = rc.SetReadDeadline(time.Now().Add(w.cfg.ReadTimeout))
	}
}

// guard holds a handler's reading and writing to the limits.
func (w *web) guard(serve middleware.HTTPHandler) middleware.HTTPHandler {
	limits := &w.cfg
	return func(rw http.ResponseWriter, r *http.Request) error {
		if limits.MaxBody > 0 && r.ContentLength > limits.MaxBody {
			return tooLarge(limits.MaxBody)
		}
		rc := http.NewResponseController(rw)
		out := &guardedWriter{ResponseWriter: rw, rc: rc, timeout: limits.WriteTimeout}
		if r.Body != nil && r.ContentLength != 0 {
			out.body = &requestBody{
				ReadCloser: r.Body, rc: rc, limit: limits.MaxBody, timeout: limits.ReadTimeout, stream: r.ProtoMajor > 1,
			}
			r.Body = out.body
		}
		err := serve(out, r)
		out.arm() // net/http sends what it holds after this
		if err != nil && out.body != nil && out.body.failed != nil {
			return out.body.failed
		}
		return err
	}
}

func tooLarge(limit int64) *middleware.HTTPError {
	return &middleware.HTTPError{
		Status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("the body is larger than the %d bytes that server.http.max_body allows", limit),
	}
}

// requestBody is a body that must not be too large, nor come too slowly.
type requestBody struct {
	io.ReadCloser

	rc      *http.ResponseController
	limit   int64         // zero and below for none
	timeout time.Duration // likewise
	stream  bool          // of HTTP/2, where a deadline that has passed cannot be taken back

	read   int64
	waited time.Duration // only what the client took
	failed *middleware.HTTPError
}

func (b *requestBody) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	if rest := b.limit - b.read + 1; b.limit > 0 && int64(len(p)) > rest {
		p = p[:rest]
	}
	begun := time.Now()
	if b.timeout > 0 {
		allowed := b.timeout + time.Duration(b.read/MinRate)*time.Second
		_ = b.rc.SetReadDeadline(begun.Add(allowed - b.waited)) // not possible in tests only
	}
	n, err := b.ReadCloser.Read(p)
	b.waited += time.Since(begun)
	b.read += int64(n)
	switch {
	case b.limit > 0 && b.read > b.limit:
		b.failed = tooLarge(b.limit)
		return n - 1, b.failed
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.failed = &middleware.HTTPError{
			Status:  http.StatusRequestTimeout,
			Message: fmt.Sprintf("the body came too slowly: %d bytes in %v; server.http.read_timeout bounds it", b.read, b.waited.Round(time.Millisecond)),
		}
		return n, b.failed
	case b.timeout > 0 && (b.stream || errors.Is(err, io.EOF)):
		// Once all has come net/http listens for the end of the connection,
		// which a deadline would look like.
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// guardedWriter is a response that the client has to take.
type guardedWriter struct {
	http.ResponseWriter

	rc      *http.ResponseController
	timeout time.Duration
	body    *requestBody // nil for none
	armed   time.Time
	taken   bool // by Hijack
}

// arm gives the client its time, from now on.
func (w *guardedWriter) arm() {
	if w.timeout <= 0 || w.taken {
		return
	}
	now := time.Now()
	if now.Sub(w.armed) < w.timeout/8 {
		return // close enough
	}
	w.armed = now
	_ = w.rc.SetWriteDeadline(now.Add(w.timeout)) // not possible in tests only
}

// WriteHeader tells the client of its body where the handler answers with an
// error because it could not read that.
func (w *guardedWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest && w.body != nil && w.body.failed != nil {
		status = w.body.failed.Status
	}
	w.arm()
	w.ResponseWriter.WriteHeader(status)
}

func (w *guardedWriter) Write(p []byte) (int, error) {
	written := 0
	for {
		piece := p[written:min(len(p), written+writePiece)]
		w.arm()
		n, err := w.ResponseWriter.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Flush sends what was written so far, where the connection can.
func (w *guardedWriter) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *guardedWriter) FlushError() error {
	w.arm()
	return w.rc.Flush()
}

// Hijack takes over the connection, which has no deadlines then.
func (w *guardedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.taken = true
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = conn.Close() // broken
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	return conn, rw, nil
}

// Unwrap gives http.ResponseController the writer underneath.
func (w *guardedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
