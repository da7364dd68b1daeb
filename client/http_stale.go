package client

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// errPeerClosed is a request that found its connection closed by the other side.
var errPeerClosed = errors.New("the instance has closed the connection")

// freshConn looks before it writes whether the other side has closed. A kept
// connection to a process that has died is closed before net/http's reading
// goroutine has come to notice; what is written to it then might have been
// processed, for all that the caller knows, and must not be sent again. With
// nothing written it may be. It looks once something was answered: a server that
// refuses a certificate says why, and closes before the first request is out.
type freshConn struct {
	net.Conn

	raw      syscall.RawConn
	answered atomic.Bool
}

// freshly wraps a connection over one of the operating system; over others it
// stays as it is.
func freshly(conn, under net.Conn) net.Conn {
	sc, ok := under.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return conn
	}
	return &freshConn{Conn: conn, raw: raw}
}

// Read notes that the connection has been answered on.
func (c *freshConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	return n, err
}

// Write writes nothing to a connection that the other side has closed. What it
// sent before it closed is left for the reader, and counts as not closed.
func (c *freshConn) Write(b []byte) (int, error) {
	if c.answered.Load() && peerClosed(c.raw) {
		return 0, errPeerClosed
	}
	return c.Conn.Write(b)
}
