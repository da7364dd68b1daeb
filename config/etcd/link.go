package etcd

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// ErrUnreachable is what an error is where etcd does not answer.
var ErrUnreachable = errors.New("it does not answer, is it running and reachable from here")

// settle is how long a connection that has just answered may take to say that it is
// ready. It is far less than an etcd needs to be replaced by another.
const settle = 50 * time.Millisecond

// awaitConnection waits for a connection to etcd, however long that takes, and
// notes when there is none.
func (f *Feed) awaitConnection(ctx context.Context) error {
	conn := f.client.ActiveConnection()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure:
			f.fail(unreachable(f.client))
		case connectivity.Shutdown:
			return errors.New("the client of etcd is closed; close the feed first")
		}
		if !conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// untilLost returns a channel that is closed when the connection, which has answered
// just now, is lost, and also if it is lost already. It ends with ctx.
func (f *Feed) untilLost(ctx context.Context) <-chan struct{} {
	conn := f.client.ActiveConnection()
	lost := make(chan struct{})
	f.wg.Go(func() {
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

// bounded is the context of one operation of the feed.
func (f *Feed) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return bounded(ctx, f.client)
}

// bounded returns the context for one operation: it has a deadline, and ends when
// connecting fails, because the client would wait for the deadline then.
func bounded(ctx context.Context, client *clientv3.Client) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	conn := client.ActiveConnection()
	go func() {
		for {
			state := conn.GetState()
			if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
				cancel()
				return
			}
		}
	}()
	return ctx, cancel
}
