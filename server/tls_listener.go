package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"plinth.internal/middleware"
)

const (
	// handshakeTimeout is how long a caller may take for its part of TLS.
	handshakeTimeout = 10 * time.Second
	// lingerTimeout is how long a refused connection stays open for the caller
	// to read why.
	lingerTimeout = 500 * time.Millisecond
	lingerBytes   = 64 << 10
)

// tlsListener makes TLS of the connections of another listener. A handshake
// holds up nobody but its own connection. What Accept returns is a *tls.Conn
// whose handshake is done, which both grpc and net/http can use, or in permissive
// mode a connection without.
type tlsListener struct {
	net.Listener // of plain connections

	name     string
	protos   []string // for ALPN, the preferred first
	offers   bool     // Accept tells what the caller offered for ALPN
	secure   *secure
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	start    sync.Once
	wg       sync.WaitGroup
	accepted chan accepted
}

type accepted struct {
	conn net.Conn
	err  error
}

// listener puts TLS before the connections of a listener.
func (s *secure) listener(name string, l net.Listener) net.Listener {
	t := &tlsListener{Listener: l, name: name, secure: s, accepted: make(chan accepted), protos: []string{"h2"}}
	if name == HTTP {
		t.protos = []string{"h2", "http/1.1"}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// sharedListener is for gRPC and HTTP on one port: its connections with TLS are of
// type *offeredConn.
func (s *secure) sharedListener(l net.Listener) net.Listener {
	t, _ := s.listener(HTTP, l).(*tlsListener)
	t.offers = true
	return t
}

// offeredConn tells beside a connection whether its caller would have taken
// HTTP/1 as well.
type offeredConn struct {
	*tls.Conn

	http1 bool
}

// Accept returns the next connection whose handshake is done.
func (l *tlsListener) Accept() (net.Conn, error) {
	l.start.Do(func() { l.wg.Go(l.run) })
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends the handshakes as well.
func (l *tlsListener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.start.Do(func() {}) // nothing is accepted any more
	l.wg.Wait()
	return err
}

// run accepts until Close. Errors are for the caller of Accept to judge.
func (l *tlsListener) run() {
	for l.ctx.Err() == nil {
		raw, err := l.Listener.Accept()
		if err != nil {
			l.hand(accepted{err: err})
			continue
		}
		l.wg.Go(func() { l.handshake(raw) })
	}
}

// hand gives a connection to Accept, and reports false if nobody takes it.
func (l *tlsListener) hand(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (l *tlsListener) handshake(raw net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	var offered []string
	conn, err := l.secure.handshake(ctx, raw, l.protos, func(protos []string) { offered = protos })
	if t, ok := conn.(*tls.Conn); ok && l.offers {
		conn = &offeredConn{t, slices.Contains(offered, "http/1.1")}
	}
	if p, ok := conn.(*peeked); ok { // in permissive mode
		e := TLSRefused{Listener: l.name, Remote: p.RemoteAddr().String(), Reason: l.name}
		if e, ok := l.secure.plain.add(time.Now(), e); ok {
			l.secure.cfg.Events(e.served())
		}
	}
	if err == nil && l.hand(accepted{conn: conn}) {
		return
	}
	if err != nil && ctx.Err() == nil {
		if e, ok := l.secure.refused(l.name, raw.RemoteAddr().String(), err); ok {
			if e, ok := l.secure.refusals.add(time.Now(), e); ok {
				l.secure.cfg.Events(e)
			}
			l.linger(raw, err)
		}
	}
	_ = raw.Close() // refused, or nobody wants it any more
}

// linger lets the caller read why it was refused. With TLS 1.3 it sends its first
// request before it knows, and closing a connection with something unread in it
// makes TCP throw away what was sent last.
func (l *tlsListener) linger(raw net.Conn, err error) {
	defer context.AfterFunc(l.ctx, func() { _ = raw.Close() })()
	_ = raw.SetDeadline(time.Now().Add(lingerTimeout)) // if this errs it is closed already
	if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil && l.name == HTTP {
		_, _ = io.WriteString(raw, "HTTP/1.1 400 Bad Request\r\nConnection: close, "+middleware.HeaderWantsTLS+"\r\n"+
			middleware.HeaderWantsTLS+": 1\r\nContent-Type: text/plain\r\n\r\n"+
			"this port speaks TLS: call it by https, with Plinth set clients.<service>.tls.mode to tls or mtls\n")
	}
	if half, ok := raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, raw, lingerBytes)
}
