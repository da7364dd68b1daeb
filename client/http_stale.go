package client

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// errPeerClosed is a request that found its connection closed by the other side.
var errPeerClosed = errors.New("the instance has closed the connection")

// freshConn looks before it begins a request whether the other side has closed. A kept
// connection to a process that has died is closed before net/http's reading
// goroutine has come to notice; what is written to it then might have been
// processed, for all that the caller knows, and must not be sent again. With
// nothing written it may be. It looks once something was answered: a server that
// refuses a certificate says why, and closes before the first request is out.
type freshConn struct {
	net.Conn

	raw      syscall.RawConn // nil where there is nothing to look at
	answered atomic.Bool
	lost     atomic.Pointer[error] // why nothing more can be read, nil = it can
	wire     atomic.Pointer[wire]  // that has it, nil = none
}

// freshly wraps a connection. It can look at one of the operating system only.
func freshly(conn, under net.Conn) *freshConn {
	c := &freshConn{Conn: conn}
	if sc, ok := under.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c
}

// closed tells whether the other side has closed. What it sent before is left for
// the reader, and counts as not closed.
func (c *freshConn) closed() bool { return c.raw != nil && c.answered.Load() && peerClosed(c.raw) }

// Read notes that the connection has been answered on, and why it is no more.
func (c *freshConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	if err != nil {
		c.lost.CompareAndSwap(nil, &err)
	}
	if w := c.wire.Load(); w != nil {
		w.read(c, n, err)
	}
	return n, err
}

// Write begins no request on a connection that the other side has closed.
func (c *freshConn) Write(b []byte) (int, error) {
	if w := c.wire.Load(); w != nil {
		return w.write(c, b)
	}
	return c.Conn.Write(b)
}

// send writes a part of a request. Where net/http has closed the connection, for what
// it read before that was written, this is the error.
func (c *freshConn) send(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if lost := c.lost.Load(); lost != nil && errors.Is(err, net.ErrClosed) {
		err = *lost
		if errors.Is(err, io.EOF) {
			err = errPeerClosed
		}
	}
	return n, err
}
