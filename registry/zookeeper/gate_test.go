package zookeeper

import (
	"context"
	"errors"
	"net"
	"sync"
)

// gate is a network that a test cuts: what was connected stays connected, and
// nothing arrives any more.
type gate struct {
	mu    sync.Mutex
	shut  bool
	conns []*gatedConn
}

type gatedConn struct {
	net.Conn

	mu  sync.Mutex
	cut bool
}

func (g *gate) dial(ctx context.Context, network, address string) (net.Conn, error) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &gatedConn{Conn: raw}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, c)
	return c, nil
}

// cut cuts all connections and all those to come, until heal.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for _, c := range g.conns {
		c.mu.Lock()
		c.cut = true
		c.mu.Unlock()
	}
}

// heal lets new connections through; what was cut stays so.
func (g *gate) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

func (c *gatedConn) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *gatedConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil && c.isCut() && !errors.Is(err, net.ErrClosed) && !isTimeout(err) {
			// That the other side hung up does not arrive either.
			n, err = 0, c.silence()
		}
		if err != nil || !c.isCut() {
			return n, err
		}
	}
}

// silence blocks like a read of a connection that nothing comes from.
func (c *gatedConn) silence() error {
	for {
		var p [1]byte
		if _, err := c.Conn.Read(p[:]); errors.Is(err, net.ErrClosed) || isTimeout(err) {
			return err
		}
	}
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if c.isCut() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
