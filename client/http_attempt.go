package client

import "time"

// httpAttempt is what an attempt has over HTTP alone: those over gRPC, which are small
// and many, do not carry it.
type httpAttempt struct {
	until time.Time   // the end of the attempt's own time, zero = it has none
	timer *time.Timer // that ends it then, nil = none
	wire  *wire       // nil until somebody was picked
	via   *pooled     // nil while nothing was handed to it
	first time.Time   // when the head of the response came, zero = it has not

	// Of an attempt that was not sent.
	refused bool // no connection could be made
	dialing bool // one was being made when the time was over
}

// end lets go of the wire, and tells whether the attempt failed by its caller's doing.
func (h *httpAttempt) end(err error) (own bool) {
	if h.wire == nil {
		return false
	}
	own = err != nil && h.wire.mistaken(err)
	h.wire.end()
	return own
}

// answered tells whether the head of the response has come.
func (h *httpAttempt) answered() bool { return h != nil && !h.first.IsZero() }

// answer notes that the head of an HTTP response is there. How long the caller
// takes for the body is its own affair.
func (a *attempt) answer(n *node) {
	a.http.first = time.Now()
	n.endpoint.Answer(a.http.first, &a.use)
}

// conclude ends an attempt over HTTP. One that was still waiting for a connection says
// nothing about the instance: those that had the connections do.
func (a *attempt) conclude(n *node, err error) {
	switch {
	case a.http.refused:
		a.end(n, errRefused)
	case a.sent.Load(), a.http.dialing:
		a.end(n, err)
	default:
		a.forget(n)
	}
}
