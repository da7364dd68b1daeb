package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"
)

// One port for gRPC and HTTP. Connections are told apart by what comes first:
//
//	HTTP/1, whatever the verb                     to the HTTP server
//	HTTP/2 whose first request is application/grpc to gRPC's own transport
//	HTTP/2 with any other first request           to the HTTP server
//	HTTP/2 that says nothing for a second         to gRPC: only its clients
//	                                              connect before they have a call
//
// A connection stays where its first request has sent it: one that mixes gRPC and
// other requests gets errors for the others. With TLS a client that did not agree
// on h2 speaks HTTP/1, and one that offered http/1.1 beside h2 is a browser or the
// like, which may well connect ahead: its silence means HTTP.
const (
	// sniffTimeout is how long a client may take for the first bytes.
	sniffTimeout = ReadHeaderTimeout
	// quietTimeout is how long HTTP/2 may be silent before it must be gRPC.
	quietTimeout = time.Second
)

// sharedPort hands the connections of one listener to two servers.
type sharedPort struct {
	inner  net.Listener // TLS is done
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	start  sync.Once

	sides [2]*portSide // GRPC, HTTP

	mu   sync.Mutex
	open int // sides that are not closed
}

// The sides of a port.
const (
	sideGRPC = iota
	sideHTTP
)

func newSharedPort(l net.Listener) *sharedPort {
	p := &sharedPort{inner: l, open: 2}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for i := range p.sides {
		p.sides[i] = newPortSide(p)
	}
	return p
}

// portSide is the listener of one of the servers.
type portSide struct {
	port     *sharedPort
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	accepted chan accepted
	once     sync.Once
}

func newPortSide(p *sharedPort) *portSide {
	s := &portSide{port: p, accepted: make(chan accepted)}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	return s
}

// Accept returns the next connection that is for this side.
func (s *portSide) Accept() (net.Conn, error) {
	s.port.start.Do(func() { s.port.wg.Go(s.port.run) })
	select {
	case a := <-s.accepted:
		return a.conn, a.err
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr is the port's.
func (s *portSide) Addr() net.Addr { return s.port.inner.Addr() }

// Close ends the side. The port is closed with the second one: a server that
// stops a moment later than the other one must not find its listener broken.
func (s *portSide) Close() (err error) {
	s.once.Do(func() {
		s.cancel()
		p := s.port
		p.mu.Lock()
		p.open--
		last := p.open == 0
		p.mu.Unlock()
		if last {
			p.cancel()
			err = p.inner.Close()
			p.start.Do(func() {}) // nothing is accepted any more
			p.wg.Wait()
		}
	})
	return err
}

// run accepts until both sides are closed. Errors are for the servers to judge.
func (p *sharedPort) run() {
	for p.ctx.Err() == nil {
		conn, err := p.inner.Accept()
		if err != nil {
			for _, side := range p.sides {
				side.hand(accepted{err: err})
			}
			continue
		}
		p.wg.Go(func() { p.direct(conn) })
	}
}

// hand gives a connection to Accept, and reports false if nobody takes it.
func (s *portSide) hand(a accepted) bool {
	select {
	case s.accepted <- a:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// direct finds out who a connection is for.
func (p *sharedPort) direct(conn net.Conn) {
	side, out := sideHTTP, conn
	browser := false
	if c, ok := conn.(*offeredConn); ok {
		conn, out, browser = c.Conn, c.Conn, c.http1
	}
	secure, isTLS := conn.(*tls.Conn)
	// Without h2 it is HTTP/1, and net/http wants to see the TLS itself.
	if !isTLS || secure.ConnectionState().NegotiatedProtocol == "h2" {
		var err error
		if side, out, err = p.sniff(conn, browser); err != nil {
			_ = conn.Close() // it has said nothing that could be answered
			return
		}
	}
	if !p.sides[side].hand(accepted{conn: out}) {
		_ = conn.Close() // nobody wants it any more
	}
}

// sniff reads what a connection begins with.
func (p *sharedPort) sniff(conn net.Conn, browser bool) (side int, out net.Conn, err error) {
	defer context.AfterFunc(p.ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(sniffTimeout)); err != nil {
		return 0, nil, err
	}
	s := &sniffer{conn: conn, browser: browser}
	if side, err = s.find(); err != nil {
		return 0, nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return 0, nil, err
	}
	if p.ctx.Err() != nil {
		return 0, nil, net.ErrClosed
	}
	return side, s.result(side), nil
}

// sharedConn is a connection whose first bytes were read already.
type sharedConn struct {
	net.Conn

	first *bytes.Reader
	state *tls.ConnectionState // nil without TLS
	acks  *ackFilter           // nil where nothing is to be taken out
}

func (c *sharedConn) Read(b []byte) (int, error) {
	if c.acks != nil {
		return c.acks.read(c.raw, b)
	}
	return c.raw(b)
}

func (c *sharedConn) raw(b []byte) (int, error) {
	if c.first.Len() > 0 {
		return c.first.Read(b)
	}
	return c.Conn.Read(b)
}

// samePort reports whether two addresses to listen on are one. Port 0 is another
// one each time.
func samePort(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || strings.Trim(portA, "0") == "" {
		return false
	}
	return normalHost(hostA) == normalHost(hostB)
}

// normalHost writes all addresses at once as "".
func normalHost(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return strings.ToLower(host)
	case ip.IsUnspecified():
		return ""
	}
	return ip.Unmap().String()
}

// sharesPort reports whether gRPC and HTTP are to be served on one port: by
// their addresses, or because both were given the same listener.
func (c *Config) sharesPort() bool {
	g, h := c.Listeners[GRPC], c.Listeners[HTTP]
	if g == nil && h == nil {
		return samePort(c.Addrs[GRPC], c.Addrs[HTTP])
	}
	return g != nil && h != nil && reflect.TypeOf(g) == reflect.TypeOf(h) && reflect.TypeOf(g).Comparable() && g == h
}
