package middleware

import (
	"errors"
	"net/http"
	"time"
)

// HTTPHandler answers HTTP requests and tells the outcome of each, which a status
// of HTTP cannot always say. Its error is what the chain sees; an error that comes
// before anything was written is still to be answered, by the caller. Nil means
// what the status that was written says: below 400 the call went well.
type HTTPHandler func(w http.ResponseWriter, r *http.Request) error

// HTTPFailure answers an HTTP request with an error, before anything was written.
type HTTPFailure func(w http.ResponseWriter, r *http.Request, err error)

// HTTPServerFunc is [HTTPServer] for a handler that tells its outcome. Errors
// that reach the adapter before a byte was written, its own and those of the
// chain, are answered by fail; nil means [WriteHTTPError].
func HTTPServerFunc(service, method string, serve HTTPHandler, fail HTTPFailure, chain ...Middleware) http.Handler {
	if fail == nil {
		fail = func(w http.ResponseWriter, _ *http.Request, err error) { WriteHTTPError(w, err) }
	}
	handler := Chain(chain...)(end)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &httpServerCall{serve: serve, request: r}
		c.writer = responseWriter{ResponseWriter: w, leaving: &c.leaving}
		c.Kind = ServerHTTP
		c.Service, c.Method = service, method
		c.Idempotency = httpIdempotency(r)
		c.Start = time.Now()
		c.transport = c
		err := handler(r.Context(), &c.Call)
		switch {
		case err == nil:
		case errors.Is(err, http.ErrAbortHandler), c.unfinished && c.writer.status != 0:
			// There is no way to take back what was sent. A deadline in the
			// past makes the server close the connection instead of ending
			// the response in good order.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		case c.writer.status == 0:
			runAll(&c.leaving)
			fail(w, r, err)
		}
	})
}
