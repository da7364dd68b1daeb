package middleware

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"

	"plinth.internal/apierror"
)

// HTTPServer binds a chain to an HTTP handler of the service. The pattern is
// the route the handler is registered under, which becomes [Call.Method].
//
// A response of 400 and above is an error of the chain ([HTTPError]). A handler
// that returns without having written anything has answered 200, unless its
// context has ended: that is the context's error, 504 or 499. An error that
// reaches the adapter before a byte of the response was written is answered by
// [WriteHTTPError]; later, the response is cut off, so that the caller does not
// take half of it for the whole. An error that wraps [http.ErrAbortHandler]
// always cuts it off.
func HTTPServer(service, pattern string, h http.Handler, chain ...Middleware) http.Handler {
	return HTTPServerFunc(service, pattern, func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}, nil, chain...)
}

// WriteHTTPError answers an HTTP request with an error: the status of its code,
// or its own where it is an [HTTPError], and a google.rpc.Status in JSON with its
// details. An error marked by [NoRetry] sets [HeaderNoRetry]; one with
// google.rpc.RetryInfo sets Retry-After in whole seconds, 1 at least, unless the
// header is set already. Handlers may use it for errors of their own.
func WriteHTTPError(w http.ResponseWriter, err error) {
	body := apierror.Marshal(Status(err))
	h := w.Header()
	if after, ok := apierror.RetryDelay(err); ok && after > 0 && h.Get("Retry-After") == "" {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
	}
	h.Del("Content-Length")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if IsNoRetry(err) {
		h.Set(HeaderNoRetry, "1") //nolint:canonicalheader // the constant is gRPC's spelling; Set makes it HTTP's
	}
	w.WriteHeader(HTTPStatusOf(err))
	_, _ = w.Write(append(body, '\n')) // the caller is gone if this errs
}

type httpServerCall struct {
	Call

	serve      HTTPHandler
	request    *http.Request
	writer     responseWriter
	leaving    []func() // what BeforeReply was given
	unfinished bool     // the handler did not return by itself
}

func (c *httpServerCall) peer() string               { return c.request.RemoteAddr }
func (c *httpServerCall) header(key string) string   { return fromHTTP(key, c.request.Header.Get(key)) }
func (c *httpServerCall) setHeader(string, string)   {}
func (c *httpServerCall) reply(string) string        { return "" }
func (c *httpServerCall) setReply(key, value string) { c.writer.Header().Set(key, toHTTP(key, value)) }
func (c *httpServerCall) beforeReply(fn func())      { c.leaving = append(c.leaving, fn) }
func (c *httpServerCall) fork() (*Call, bool)        { return nil, false }
func (c *httpServerCall) adopt(*Call)                {}

func (c *httpServerCall) setTrailer(key, value string) {
	if c.writer.status == 0 {
		c.setReply(key, value)
	}
}

func (c *httpServerCall) run(ctx context.Context) error {
	c.unfinished = true
	err := c.serve(&c.writer, c.request.WithContext(ctx))
	c.unfinished = false
	if err != nil {
		return err
	}
	if c.writer.status >= http.StatusBadRequest {
		return &HTTPError{Status: c.writer.status}
	}
	if c.writer.status == 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s has answered nothing: %w", c.Method, err)
		}
		// A handler that writes nothing has answered 200.
		c.writer.WriteHeader(http.StatusOK)
	}
	return nil
}

// responseWriter remembers the status. It passes Flush and Hijack on for code
// that asks for these interfaces, and everything else through Unwrap.
type responseWriter struct {
	http.ResponseWriter

	status  int
	leaving *[]func() // to be run before the headers leave
}

// begin notes the status of the response that is about to begin.
func (w *responseWriter) begin(status int) {
	if w.status == 0 {
		w.status = status
		runAll(w.leaving)
	}
}

func (w *responseWriter) WriteHeader(status int) {
	// 1xx are not the answer yet, but for the one that ends HTTP.
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.begin(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// Flush sends what was written so far, where the connection can.
func (w *responseWriter) Flush() {
	w.begin(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack takes over the connection, where it can be taken over. What the handler
// answers from then on is its own business; it counts as 101.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	if w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, nil
}

// Unwrap gives http.ResponseController the writer underneath.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
