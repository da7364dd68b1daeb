package fault

import (
	"fmt"
	"net"
	"sync"
)

// Listener makes the connections of l known to the injector, so that it can cut
// those whose calls are to be aborted. Without it an aborted gRPC call fails, but
// its connection stays.
func (i *Injector) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, conns: &i.conns}
}

type listener struct {
	net.Listener

	conns *connections
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.conns.add(c), nil
}

// connections are those that are open, by the address of the other side, which is
// what a call knows of its own.
type connections struct {
	mu    sync.Mutex
	open  map[string]*conn
	count int // of all that there were, to tell those of one address apart
}

func (cs *connections) add(c net.Conn) *conn {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open == nil {
		cs.open = map[string]*conn{}
	}
	cs.count++
	added := &conn{Conn: c, all: cs, remote: c.RemoteAddr()}
	if added.remote == nil || cs.open[added.remote.String()] != nil {
		// In memory all have the same address.
		added.remote = numbered{addr: added.remote, n: cs.count}
	}
	cs.open[added.remote.String()] = added
	return added
}

// cut ends a connection without a word, where it is known.
func (cs *connections) cut(peer string) {
	cs.mu.Lock()
	c := cs.open[peer]
	cs.mu.Unlock()
	if c == nil {
		return
	}
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, as a machine that is switched off and on sends
	}
	_ = c.Close() // it is to be gone, and is
}

type conn struct {
	net.Conn

	all    *connections
	remote net.Addr
}

func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Close() error {
	c.all.mu.Lock()
	if key := c.remote.String(); c.all.open[key] == c {
		delete(c.all.open, key)
	}
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// numbered is an address of which there are several.
type numbered struct {
	addr net.Addr
	n    int
}

func (a numbered) Network() string {
	if a.addr == nil {
		return "unknown"
	}
	return a.addr.Network()
}

func (a numbered) String() string {
	if a.addr == nil {
		return fmt.Sprintf("connection %d", a.n)
	}
	return fmt.Sprintf("%v#%d", a.addr, a.n)
}
