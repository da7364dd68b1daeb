package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/client/balancer"
	"plinth.internal/internal/backoff"
	"plinth.internal/middleware"
	"plinth.internal/middleware/load"
)

// How long an address rests that cannot be connected to, and how many others are
// looked for.
const (
	httpRestBase     = 100 * time.Millisecond // after the first connection that failed
	httpRestMax      = 5 * time.Second
	httpPicksPerCall = 4
)

// dialError marks what failed before anything was sent, or before the instance
// looked at what was.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// httpTransport keeps requests for other hosts out of the chain.
type httpTransport struct {
	service string
	chain   http.RoundTripper
}

func (t *httpTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" || r.URL.Host != t.service {
		if r.Body != nil {
			_ = r.Body.Close() // as every RoundTripper must
		}
		return nil, t.refused(r.URL)
	}
	return t.chain.RoundTrip(r)
}

// CloseIdleConnections lets http.Client.CloseIdleConnections do nothing: the
// pool belongs to all services of the client.
func (t *httpTransport) CloseIdleConnections() {}

// failingTransport is the transport for a name that cannot be called.
type failingTransport struct{ err error }

func (t failingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return nil, t.err
}

func (s *service) closed() error {
	return &codedError{fmt.Errorf("call service %q: %w", s.name, ErrClosed), codes.Canceled}
}

// httpBase sends one attempt to an instance that it picks.
type httpBase struct{ service *service }

func (b *httpBase) RoundTrip(r *http.Request) (*http.Response, error) {
	s := b.service
	a := attemptOf(r.Context())
	if err := checkRequest(s.name, r); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	v, err := s.following(r.Context(), &s.httpView, s.http, s.httpView.apply)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	now := time.Now()
	a.pinger = b
	n, err := pickRested(now, a, v)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	a.node.Store(n)
	a.begin(now, n) // ended by send, when the response body is done with

	a.http.wire = newWire(r.Context())
	a.http.wire.endWith(s)
	out := r.WithContext(a.http.wire.ctx) // a copy, but it shares the URL with the caller's
	url := *r.URL
	url.Host = n.addr
	out.URL = &url
	a.http.wire.carry(out)
	if out.Host == "" {
		out.Host = s.name
	}
	set := s.settings("")
	resp, err := n.pool.transport(&set).RoundTrip(out)
	if err == nil && wantsTLS(resp, &set) {
		_ = resp.Body.Close()
		err = &dialError{fmt.Errorf("%s at %s speaks TLS only, and was called without: set clients.%s.tls.mode, or clients.default.tls.mode, to tls or mtls",
			s.name, n.addr, s.name)}
	}
	if err == nil {
		err = s.upgrade(resp)
	}
	if err == nil {
		a.sent.Store(true)
		a.answer(n)
		if a.http.timer != nil && resp.StatusCode < http.StatusBadRequest { // the body of an error belongs to the attempt
			a.http.timer.Stop()
		}
		n.rest.over()
		a.report, a.told = load.FromHTTP(resp.Header)
		if resp.Header.Get(load.HeaderBounce) != "" {
			a.bounced.Store(true)
		}
		return resp, nil
	}
	_, a.http.refused = errors.AsType[*dialError](err)
	a.sent.Store(!a.http.refused && a.http.wire.written())
	if a.http.refused {
		n.rest.begin(time.Now(), err)
		if r.Context().Err() == nil {
			v.drop(n, err)
			n.unreachable(err)
		}
	}
	if over := ended(r.Context()); over != nil {
		a.http.dialing = a.http.wire.dials.Load()
		waits := ""
		if !a.sent.Load() && !a.http.dialing {
			waits = n.crowded(&set)
		}
		return nil, fmt.Errorf("call instance %s of %q at %s%s: %w", n.id, s.name, n.addr, waits, over)
	}
	if own := a.http.wire.own.Load(); own != nil {
		return nil, s.requestFault(*own)
	}
	if lost := context.Cause(a.http.wire.ctx); errors.Is(lost, ErrClosed) {
		return nil, lost
	} else if lost != nil {
		err = lost
	}
	return nil, &unreachableError{service: s.name, instance: n.id, addr: n.addr, err: err}
}

// wantsTLS reports the answer of a port that speaks TLS to a request without: it is
// no answer of the service, whose caller has done nothing wrong.
func wantsTLS(resp *http.Response, set *Settings) bool {
	return resp.StatusCode == http.StatusBadRequest && resp.Close && resp.Header.Get(middleware.HeaderWantsTLS) != "" && !set.TLS.protects()
}

// crowded says why a request was still waiting for a connection.
func (n *node) crowded(set *Settings) string {
	most := set.maxConnections()
	if most == 0 {
		return ""
	}
	return fmt.Sprintf(" (it has waited for a connection: all are in use, and clients.%s.http.max_connections, client.Settings.MaxConnections in code, allows %d connections)", n.home.service.name, most)
}

// pickRested picks an instance, and another one as long as the picked one could
// not be connected to a moment ago. If all are like that the last one has to do.
func pickRested(now time.Time, a *attempt, v *view) (*node, error) {
	if a.route.book != nil {
		return v.choose(now, a)
	}
	n, _ := v.rested(now, a, a.policy)
	return n, nil
}

// rested picks for pickRested, and reports false if all are like that.
func (v *view) rested(now time.Time, a *attempt, by balancer.Policy) (*node, bool) {
	var i int
	avoid := a.tried
	for range httpPicksPerCall {
		i = by.Pick(v.list, a.request(now, avoid))
		if v.nodes[i].rest.ready(now) {
			return v.nodes[i], true
		}
		avoid = append(slices.Clip(avoid), v.nodes[i].endpoint)
	}
	return v.nodes[i], false
}

// rest keeps calls away from an address that cannot be connected to, as the
// backoff of a gRPC connection does. When it is over one call tries.
type rest struct {
	made     time.Time    // what times are counted from, so that a clock that jumps does no harm
	until    atomic.Int64 // nanoseconds after made, 0 = none
	failures atomic.Int64
	why      atomic.Pointer[string]         // the last of those failed, nil = none since it was connected to
	told     atomic.Int64                   // nanoseconds after made, 0 = never; see node.unreachable
	last     atomic.Pointer[connectionMade] // nil = none was
	silent   atomic.Bool                    // it is pinged until it answers; see node.doubt
}

// ready reports whether the address may be tried. It lets one caller through
// when the rest is over, and gives the others another one.
func (r *rest) ready(now time.Time) bool {
	if r.silent.Load() {
		return false
	}
	until := r.until.Load()
	if until == 0 {
		return true
	}
	if int64(now.Sub(r.made)) < until {
		return false
	}
	return r.until.CompareAndSwap(until, int64(now.Add(DefaultConnectTimeout).Sub(r.made)))
}

// begin starts a rest, longer with every failure.
func (r *rest) begin(now time.Time, err error) {
	r.why.Store(new(err.Error()))
	n := r.failures.Add(1)
	// Half of the ceiling at least, and half of it up to chance.
	d := backoff.Around(backoff.Ceiling(httpRestBase, httpRestMax, int(n-1))*3/4, 1.0/3)
	r.until.Store(max(1, int64(now.Add(d).Sub(r.made))))
}

func (r *rest) over() {
	if r.until.Load() != 0 || r.failures.Load() != 0 {
		r.until.Store(0)
		r.failures.Store(0)
		r.why.Store(nil)
	}
}

// failedPause is the least time between two events for one instance.
const failedPause = time.Minute

// unreachable tells that no connection to the instance could be made. Calls that
// another instance has taken say nothing of it.
func (n *node) unreachable(err error) {
	r := n.rest
	now, told := max(1, int64(time.Since(r.made))), r.told.Load()
	if told != 0 && now-told < int64(failedPause) || !r.told.CompareAndSwap(told, now) {
		return
	}
	s := n.home.service
	s.client.options.events(ConnectionFailed{Service: s.name, Protocol: n.home.protocol, Instance: n.id, Addr: n.addr, Err: err})
}
