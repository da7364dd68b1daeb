package etcd

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// link follows the state of the connection to etcd, which the client itself
// does not tell. It may miss a connection that lives for a moment only.
type link struct {
	mu     sync.Mutex
	state  connectivity.State
	up     chan struct{} // closed and replaced each time the connection becomes ready
	broken chan struct{} // closed while connecting fails
}

func newLink() *link {
	return &link{
		state:  connectivity.Idle,
		up:     make(chan struct{}),
		broken: make(chan struct{}),
	}
}

// follow updates the link until ctx ends.
func (l *link) follow(ctx context.Context, conn *grpc.ClientConn) {
	for {
		state := conn.GetState()
		l.set(state)
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
		// Lost and ready again before we looked is still lost.
		if state == connectivity.Ready && conn.GetState() == connectivity.Ready {
			l.set(connectivity.Connecting)
		}
	}
}

func (l *link) set(state connectivity.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.state
	l.state = state
	if state == old {
		return
	}
	if state == connectivity.Ready {
		close(l.up)
		l.up = make(chan struct{})
	}
	switch {
	case state == connectivity.TransientFailure:
		close(l.broken)
	case old == connectivity.TransientFailure:
		l.broken = make(chan struct{})
	}
}

// whenUp returns a channel that is closed when the connection becomes ready
// the next time.
func (l *link) whenUp() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// whenBroken returns a channel that is closed once connecting has failed, now
// or later.
func (l *link) whenBroken() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// settle is how long a connection that has just answered may take to say that
// it is ready. It is far less than an etcd needs to be replaced by another.
const settle = 50 * time.Millisecond

// untilLost returns a channel that is closed when the connection, which has
// answered just now, is lost, and also if it is lost already. It looks at the
// connection itself and so misses nothing. It ends with ctx.
func (d *driver) untilLost(ctx context.Context) <-chan struct{} {
	conn := d.client.ActiveConnection()
	lost := make(chan struct{})
	d.wg.Go(func() {
		defer close(lost)
		if conn.GetState() == connectivity.Connecting {
			wait, cancel := context.WithTimeout(ctx, settle)
			conn.WaitForStateChange(wait, connectivity.Connecting)
			cancel()
		}
		if conn.GetState() == connectivity.Ready {
			conn.WaitForStateChange(ctx, connectivity.Ready)
		}
	})
	return lost
}
