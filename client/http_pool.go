package client

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// httpIdleTimeout is how long a connection waits for the next request.
const httpIdleTimeout = 90 * time.Second

// httpContinueTimeout is how long a request with "Expect: 100-continue" holds its body
// back. A server need not say anything.
const httpContinueTimeout = time.Second

// httpPool is the connections to one instance of one service. They are not shared
// with other services at the same address: a connection that was checked for one
// service must not carry the requests for another.
type httpPool struct {
	service *service    // never changed
	gone    atomic.Bool // the instance is in the list no more
	mu      sync.Mutex  // held to replace current
	current atomic.Pointer[pooled]
}

// pooled is a transport with what it was made for.
type pooled struct {
	kind      poolKind
	transport *http.Transport
}

// RoundTrip notes in the attempt over which transport it went, for settle.
func (c *pooled) RoundTrip(r *http.Request) (*http.Response, error) {
	if a := attemptOf(r.Context()); a != nil && a.http != nil {
		a.http.via = c
	}
	return roundTrip(c.transport, r)
}

// poolKind is the settings that connections are made by and cannot follow. A
// connection may live for as long as there are requests, so that one which was
// checked for a name that counts no more would never be checked for another.
type poolKind struct {
	tls  TLS
	most int // connections, 0 = no bound
}

func kindOf(set *Settings) poolKind {
	kind := poolKind{most: set.maxConnections()}
	if set.TLS != nil {
		kind.tls = *set.TLS
	}
	return kind
}

// transport is the one for the settings as they are now. The connections of the
// one before are closed after their requests.
func (p *httpPool) transport(set *Settings) *pooled {
	kind := kindOf(set)
	if c := p.current.Load(); c != nil && c.kind == kind {
		return c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.current.Load()
	if old != nil && old.kind == kind {
		return old
	}
	c := &pooled{kind: kind, transport: newTransport(p.service.client.options.dial, kind.most)}
	p.current.Store(c)
	if old != nil {
		old.transport.CloseIdleConnections()
	}
	return c
}

// close closes the connections that wait, and has those in use closed after their
// requests.
func (p *httpPool) close() {
	p.gone.Store(true)
	if c := p.current.Load(); c != nil {
		c.transport.CloseIdleConnections()
	}
}

// settle is called at the end of a request, with the transport that it went over,
// nil for none. A request that was picked before the instance went, or before the
// settings changed, and sent after, has that transport keep connections again.
func (p *httpPool) settle(c *pooled) {
	if c != nil && (p.gone.Load() || p.current.Load() != c) {
		c.transport.CloseIdleConnections()
	}
}

// release gives up the connections to the instances that the next view has no
// more; next may be nil.
func (v *view) release(next *view) {
	if v == nil {
		return
	}
	for addr, n := range v.byAddr {
		if n.pool != nil && (next == nil || next.byAddr[addr] == nil) {
			n.pool.close()
		}
	}
}

// newTransport makes a transport for one instance.
func newTransport(dial func(ctx context.Context, addr string) (net.Conn, error), most int) *http.Transport {
	idle := most
	if idle == 0 {
		idle = DefaultMaxConnections
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			timeout := DefaultConnectTimeout
			if a := attemptOf(ctx); a != nil {
				timeout = a.service.settings("").connectTimeout()
				if a.http != nil && a.http.wire != nil {
					a.http.wire.dials.Store(true)
					defer a.http.wire.dials.Store(false)
				}
			}
			dialing, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			under, err := dial(dialing, addr)
			conn := under
			if a := attemptOf(ctx); a != nil && err == nil {
				if conn, err = a.service.secured(ctx, under); err == nil && a.node.Load() != nil {
					a.node.Load().rest.connected(conn)
				}
			}
			if err != nil {
				return nil, &dialError{err}
			}
			return freshly(conn, under), nil
		},
		MaxConnsPerHost:     most,
		MaxIdleConnsPerHost: idle, // whoever was allowed to open them may keep them
		MaxIdleConns:        0,    // no bound but the one above
		IdleConnTimeout:     httpIdleTimeout,

		ExpectContinueTimeout: httpContinueTimeout,
	}
}
