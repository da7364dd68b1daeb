package middleware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxErrorBody is how much of an error response is read before the chain
// decides whether to try again. A larger one is handed to the caller as it
// comes and is final.
const maxErrorBody = 64 << 10

// RoundTripper binds a chain to the HTTP requests that a client makes to the
// service named target. A middleware may call next several times; each time is
// an attempt with the same request.
//
// A response of 400 and above is an error of the chain ([HTTPError]); when it
// is final the caller gets the response itself, as from any RoundTripper, be it
// that its body has not come as a whole: then reading it ends with an error. The
// chain runs in a goroutine of its own until the response body is read to its
// end or closed, where a panic of a middleware ends the process, unless one around it
// recovers. A request whose body cannot be had again (GetBody is nil) is
// sent once at most.
func RoundTripper(target string, base http.RoundTripper, chain ...Middleware) http.RoundTripper {
	return &roundTripper{target: target, base: base, handler: Chain(chain...)(end)}
}

type roundTripper struct {
	target  string
	base    http.RoundTripper
	handler Handler
}

func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	delivered := make(chan *http.Response, 1)
	c := &httpClientCall{base: t.base, request: r, delivered: delivered}
	c.Kind = ClientHTTP
	c.Target, c.Service, c.Method = t.target, t.target, boundedMethod(r.Method)
	c.Idempotency = idempotency(r.Context(), httpIdempotency(r))
	if !c.replayable() {
		c.Idempotency = IdempotencyUnknown
	}
	c.Start = time.Now()
	c.transport = c
	ended := start(r.Context(), t.handler, &c.Call)
	select {
	case resp := <-delivered:
		return resp, nil
	case err := <-ended:
		if !c.sent && r.Body != nil {
			_ = r.Body.Close() // a RoundTripper closes the body even when it fails
		}
		select {
		case resp := <-delivered: // it was delivered and ended at once
			return resp, nil
		default:
		}
		if c.failed != nil {
			if _, ok := errors.AsType[*HTTPError](err); ok || err == nil {
				return c.failed, nil
			}
		}
		if err == nil {
			err = errors.New("make HTTP request: a middleware answered without sending it")
		}
		return nil, err
	}
}

type httpClientCall struct {
	Call

	base      http.RoundTripper
	request   *http.Request
	headers   pairs                 // keys in canonical form, values as they are sent
	delivered chan<- *http.Response // nil once the response was handed over
	sent      bool                  // the request's own body was given away
	last      error                 // outcome of the attempt before
	failed    *http.Response        // the last error response, its body in memory
	race      *race                 // nil where there is no fork
	parent    *httpClientCall       // of a fork
}

func (c *httpClientCall) replayable() bool {
	return c.request.Body == nil || c.request.Body == http.NoBody || c.request.GetBody != nil
}

func (c *httpClientCall) peer() string { return "" }

func (c *httpClientCall) header(key string) string {
	v, ok := c.headers.get(http.CanonicalHeaderKey(key))
	if !ok {
		v = c.request.Header.Get(key)
	}
	return fromHTTP(key, v)
}

func (c *httpClientCall) setHeader(key, value string) {
	c.headers.setOrRemove(http.CanonicalHeaderKey(key), toHTTP(key, value))
}

func (c *httpClientCall) reply(key string) string {
	if c.failed != nil {
		return fromHTTP(key, c.failed.Header.Get(key))
	}
	return ""
}

func (c *httpClientCall) setReply(string, string)   {}
func (c *httpClientCall) setTrailer(string, string) {}
func (c *httpClientCall) beforeReply(func())        {}

func (c *httpClientCall) run(ctx context.Context) error {
	if c.delivered == nil || c.sent && !c.replayable() {
		return c.last
	}
	c.failed = nil
	if c.race != nil {
		c.last = c.raced(ctx)
	} else {
		c.last = c.attempt(ctx)
	}
	return c.last
}

func (c *httpClientCall) attempt(ctx context.Context) error {
	r, err := c.outgoing(ctx)
	if err != nil {
		return err
	}
	resp, err := c.base.RoundTrip(r)
	if err != nil {
		return withContextError(ctx, err)
	}
	resp.Request = c.request
	if resp.StatusCode >= http.StatusBadRequest {
		head, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody+1))
		if err != nil && errors.Is(ctx.Err(), context.Canceled) {
			_ = resp.Body.Close()
			return withContextError(ctx, err)
		}
		outcome := newHTTPError(resp, head)
		if err != nil || len(head) <= maxErrorBody {
			_ = resp.Body.Close()
			var body io.Reader = bytes.NewReader(head)
			if err != nil { // the status counts, and whoever reads on is told
				body = io.MultiReader(body, brokenReader{withContextError(ctx, err)})
			}
			resp.Body = io.NopCloser(body)
			c.failed = resp
			return outcome
		}
		resp.Body = &prefixedBody{Reader: io.MultiReader(bytes.NewReader(head), resp.Body), Closer: resp.Body}
		if err := c.deliver(ctx, resp); err != nil {
			return err
		}
		return outcome
	}
	return c.deliver(ctx, resp)
}

// withContextError makes sure that the error of a context that has ended is
// known for one: net/http returns the context's cause, which can be anything.
func withContextError(ctx context.Context, err error) error {
	if ended := contextError(ctx); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w: %w", ended, err)
	}
	return err
}

// contextError is the error of a context that has ended. An attempt may have a time of
// its own, and that it was over is in the cause.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// outgoing is a copy of the request for one attempt: a RoundTripper must not
// change what it was given.
func (c *httpClientCall) outgoing(ctx context.Context) (*http.Request, error) {
	r := c.request.WithContext(ctx)
	r.Header = c.request.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	for i := 0; i < len(c.headers); i += 2 {
		r.Header.Set(c.headers[i], c.headers[i+1])
	}
	if (c.sent || c.parent != nil) && c.request.GetBody != nil {
		body, err := c.request.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	c.sent = true
	return r, nil
}

// deliver hands the response to the caller and waits until its body is done
// with. Where attempts run at the same time only one of them delivers.
func (c *httpClientCall) deliver(ctx context.Context, resp *http.Response) error {
	if c.race != nil && !c.race.won(c) {
		_ = resp.Body.Close()
		return ErrAnswered
	}
	out := c.delivered
	c.delivered = nil
	c.Idempotency = IdempotencyUnknown // the caller has its response: nothing is left to repeat
	if resp.Body == nil || resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		out <- resp
		return nil
	}
	body := &watchedBody{ReadCloser: resp.Body, ctx: ctx, done: make(chan struct{})}
	resp.Body = body
	out <- resp
	return body.wait()
}

// brokenReader is the end of a body that has not come as a whole.
type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

type prefixedBody struct {
	io.Reader
	io.Closer
}

// httpIdempotency is what RFC 9110, section 9.2 says of the method.
func httpIdempotency(r *http.Request) Idempotency {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return NoSideEffects
	case http.MethodPut, http.MethodDelete:
		return Idempotent
	}
	return IdempotencyUnknown
}

// boundedMethod keeps the number of methods small enough for a metric's label.
func boundedMethod(m string) string {
	switch m {
	case "":
		return http.MethodGet
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return m
	}
	return "OTHER"
}
