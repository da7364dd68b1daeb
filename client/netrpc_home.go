package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// errDelisted is the error of an attempt whose instance left the list between
// the pick and the connection.
var errDelisted = errors.New("it has just left the list of instances")

// netRPCHome is the list of instances for net/rpc, watched from the first call
// on, and the connections to them.
type netRPCHome struct {
	listView

	service *service

	mu     sync.RWMutex
	closed bool
	links  map[netRPCKey]*netRPCLink // to instances of the current view
	open   map[*netRPCConn]struct{}  // all connections, also those that no link has any more
}

// netRPCKey is where a connection goes.
type netRPCKey struct{ addr, path string }

// nodes returns the current list, waiting for the first one.
func (h *netRPCHome) nodes(ctx context.Context) (*view, error) {
	return h.service.following(ctx, &h.listView, h.service.netrpc, h.apply)
}

// apply takes a view into use, never two at a time. Connections to instances
// that are not in it end with their last call.
func (h *netRPCHome) apply(v *view) {
	var gone []*netRPCLink
	h.mu.Lock()
	first := h.current.Swap(v) == nil
	for key, l := range h.links {
		if v.byAddr[key.addr] == nil {
			gone = append(gone, l)
			delete(h.links, key)
		}
	}
	h.mu.Unlock()
	if first {
		close(h.known)
	}
	for _, l := range gone {
		l.retire()
	}
}

// enter returns a connection to an instance for one call, which is to leave it
// when it is over. A *dialError says that none could be made.
func (h *netRPCHome) enter(ctx context.Context, n *node, path string) (*netRPCConn, error) {
	key := netRPCKey{n.addr, path}
	h.mu.RLock()
	l := h.links[key]
	h.mu.RUnlock()
	if l == nil {
		if l = h.link(key); l == nil {
			return nil, errDelisted
		}
	}
	return l.enter(ctx, n)
}

// link makes the link, unless nobody would ever retire it.
func (h *netRPCHome) link(key netRPCKey) *netRPCLink {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.links[key]; l != nil {
		return l
	}
	if h.current.Load().byAddr[key.addr] == nil {
		return nil
	}
	l := &netRPCLink{service: h.service, key: key}
	h.links[key] = l
	return l
}

// add takes in a new connection, which is to be removed when it has ended. It
// reports false if nobody would ever break it.
func (h *netRPCHome) add(c *netRPCConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.open[c] = struct{}{}
	return true
}

func (h *netRPCHome) remove(c *netRPCConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, c)
}

// close breaks all connections.
func (h *netRPCHome) close() {
	h.mu.Lock()
	h.closed = true
	open := slices.Collect(maps.Keys(h.open))
	h.mu.Unlock()
	for _, c := range open {
		c.fail(ErrClosed)
	}
}

// netRPCLink is the way to one instance: one connection at a time.
type netRPCLink struct {
	service *service
	key     netRPCKey

	mu   sync.Mutex
	gone bool        // no new connection is made
	conn *netRPCConn // the latest, nil = none yet
	dial *netRPCDial // nil = none is being made
}

// netRPCDial is a connection that is being made. It serves all calls that wait
// for it, so none of them can end it.
type netRPCDial struct {
	done chan struct{} // closed when conn or err is set
	conn *netRPCConn
	err  error
}

func (l *netRPCLink) enter(ctx context.Context, n *node) (*netRPCConn, error) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return nil, errDelisted
	}
	if l.conn != nil && l.conn.enter() {
		l.mu.Unlock()
		return l.conn, nil
	}
	d := l.dial
	if d == nil {
		d = &netRPCDial{done: make(chan struct{})}
		if !l.service.client.watch(func(ctx context.Context) { l.run(ctx, d, n) }) {
			l.mu.Unlock()
			return nil, l.service.closed()
		}
		l.dial = d
	}
	l.mu.Unlock()
	select {
	case <-d.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case d.err != nil:
		return nil, d.err
	case !d.conn.enter():
		return nil, &dialError{fmt.Errorf("the connection broke as soon as it was made: %w", d.conn.cause())}
	}
	return d.conn, nil
}

// run makes a connection and then reads from it until it ends.
func (l *netRPCLink) run(ctx context.Context, d *netRPCDial, n *node) {
	home := &l.service.netrpcHome
	conn, err := dialNetRPC(ctx, l.service, l.key)
	closed := err == nil && (!home.add(conn) || !l.service.client.watch(func(context.Context) { conn.write() }))
	switch {
	case closed || ctx.Err() != nil:
		err = l.service.closed()
	case err != nil:
		n.rest.begin(time.Now(), err)
		n.unreachable(err)
		err = &dialError{err}
	default:
		n.rest.over()
		n.rest.connected(conn.conn)
	}
	l.mu.Lock()
	l.dial = nil
	switch {
	case err != nil:
	case l.gone:
		err = errDelisted
	default:
		l.conn = conn
	}
	l.mu.Unlock()
	d.conn, d.err = conn, err
	close(d.done)
	if conn == nil {
		return
	}
	defer home.remove(conn)
	if err != nil {
		conn.fail(err)
	}
	conn.read()
}

// retire has the connection end with its last call.
func (l *netRPCLink) retire() {
	l.mu.Lock()
	l.gone = true
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.retire()
	}
}
