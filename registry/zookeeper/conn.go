package zookeeper

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	// handshakeTimeout bounds the wait for a session on a new connection; the
	// client's own bound is seven times the session's timeout.
	handshakeTimeout = 3 * time.Second
	// maxRefusals is how often in a row the servers may accept a connection
	// and close it without a word before the session is given up. They do so
	// to a client that has seen a later state than they have: those of an
	// ensemble that was wiped do it for ever. About three seconds.
	maxRefusals = 3
	// sendBuffer must take the largest request, an instance.
	sendBuffer = 256 << 10
)

var (
	errRefused = errors.New("the server refuses the session")
	errLost    = errors.New("connection is lost")
	errEnded   = errors.New("connection was ended")
)

// conn is a client of ZooKeeper with one session. It gets over lost
// connections, but not over the loss of the session.
type conn struct {
	// Immutable.
	zk      *zk.Conn
	wg      *sync.WaitGroup // of the driver
	dial    DialFunc
	servers int
	resume  bool            // take the session along to another connection
	onReady func()          // may be nil
	onNode  func(zk.Event)  // may be nil; what the watches tell
	ended   <-chan zk.Event // closed when the client's goroutines have ended
	made    time.Time

	ready  chan struct{} // closed when there is a session for the first time
	failed chan struct{} // closed when each server was tried without success, once
	lost   chan struct{} // closed when the first connection with a session breaks
	over   chan struct{} // closed when there is no hope for the session any more

	mu        sync.Mutex
	raw       net.Conn
	handshake *time.Timer // closes raw
	live      bool        // raw has the session
	dead      bool        // close was called
	hung      bool        // the handshake timed out
	tries     int         // attempts to connect since the last session
	refusals  int         // in a row
	err       error       // why the last attempt failed or the connection broke
}

// connect makes a client, which begins to connect. The caller closes it.
func (d *driver) connect(c *conn, timeout time.Duration) {
	c.wg, c.dial, c.servers, c.made = &d.wg, d.dial, len(d.servers), time.Now()
	c.ready, c.failed, c.lost, c.over = make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	var err error
	c.zk, c.ended, err = zk.Connect(d.servers, timeout,
		zk.WithDialer(c.open),
		zk.WithHostProvider(&hosts{}),
		zk.WithEventCallback(c.observe),
		zk.WithLogger(silent{}),
		zk.WithLogInfo(false),
		zk.WithMaxConnBufferSize(sendBuffer))
	if err != nil {
		// Only hosts.Init and an empty list can fail, and they cannot.
		c.failed, c.err = closedChannel(), err
	}
}

// silent keeps the client from writing to the process' log.
type silent struct{}

func (silent) Printf(string, ...any) {}

// open is called by the client for each attempt to connect.
func (c *conn) open(network, address string, timeout time.Duration) (net.Conn, error) {
	c.mu.Lock()
	dead := c.dead || !c.resume && closed(c.lost)
	c.mu.Unlock()
	if dead {
		return nil, errEnded
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	raw, err := c.dial(ctx, network, address)

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.refusals = 0
		c.failLocked(err)
		return nil, err
	case c.dead:
		_ = raw.Close()
		return nil, errEnded
	}
	c.raw, c.hung = raw, false
	c.handshake = time.AfterFunc(handshakeTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.raw == raw && !c.live {
			c.hung = true
			_ = raw.Close()
		}
	})
	return raw, nil
}

// observe is called by the client for each change of the connection and for
// each event of a watch.
func (c *conn) observe(event zk.Event) {
	if event.Type != zk.EventSession {
		if c.onNode != nil {
			c.onNode(event)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if closed(c.over) {
		return // the client goes on with a new session, which is of no use
	}
	switch event.State {
	case zk.StateHasSession:
		c.handshake.Stop()
		c.live, c.err, c.tries, c.refusals = true, nil, 0, 0
		if !closed(c.ready) {
			close(c.ready)
			if c.onReady != nil {
				c.wg.Go(c.onReady)
			}
		}
	case zk.StateExpired:
		c.live = false
		c.endLocked(zk.ErrSessionExpired)
	case zk.StateDisconnected:
		switch {
		case c.live:
			c.live = false
			c.err = errLost
			if !closed(c.lost) {
				close(c.lost)
			}
		case c.hung:
			c.failLocked(errors.New("the server does not answer"))
		default:
			c.refusals++
			c.failLocked(errRefused)
			if c.refusals >= maxRefusals && closed(c.ready) {
				c.endLocked(errRefused)
			}
		}
	}
}

// failLocked notes an attempt to connect that has failed.
func (c *conn) failLocked(err error) {
	if !closed(c.over) {
		c.err = err
	}
	c.tries++
	if c.tries >= c.servers && !closed(c.failed) {
		close(c.failed)
	}
}

// endLocked notes that the session is lost.
func (c *conn) endLocked(err error) {
	c.err = err
	if !closed(c.over) {
		close(c.over)
	}
}

// await waits for the first session, but not longer than until all servers
// have been tried in vain.
func (c *conn) await(ctx context.Context) error {
	if closed(c.ready) {
		return nil
	}
	select {
	case <-c.ready:
		return nil
	case <-c.failed:
		return c.cause()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cause says why there is no connection; nil if there is one.
func (c *conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.live:
		return nil
	case c.err == nil:
		return errLost
	default:
		return c.err
	}
}

// close ends the session if ZooKeeper can be reached, lets it expire if not,
// and returns when the client's goroutines have ended, which takes a second or
// two in the worst case.
func (c *conn) close() {
	if c.zk == nil {
		return
	}
	c.mu.Lock()
	c.dead = true
	if !c.live && c.raw != nil {
		_ = c.raw.Close() // there is nobody to say goodbye to
	}
	c.mu.Unlock()

	c.zk.Close()

	c.mu.Lock()
	if c.raw != nil {
		c.handshake.Stop()
		_ = c.raw.Close()
	}
	c.mu.Unlock()
	for range c.ended {
	}
}

// do calls an operation of the client, which knows no context, and returns when
// ctx ends, at the latest after opTimeout. The operation may then still happen.
func do[T any](ctx context.Context, c *conn, operation func(*zk.Conn) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := c.cause(); err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	done := make(chan result, 1)
	c.wg.Go(func() {
		value, err := operation(c.zk)
		done <- result{value, err}
	})
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
