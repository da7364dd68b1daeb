package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/internal/backoff"
)

const (
	// relistEvery is how often, give or take half of it, a list is read again
	// although the watch says that nothing has changed.
	relistEvery = time.Minute
	// backlog is how many changes may wait while a list is being taken. More
	// wait in etcd's client.
	backlog = 256
)

// mirror is what observe keeps equal to a range of keys.
type mirror interface {
	// replace takes what was read. It returns an error if that is not the
	// continuation of what was there before.
	replace(ctx context.Context, response *clientv3.GetResponse) error
	// apply takes changes, in order.
	apply(response clientv3.WatchResponse)
	// emit shows what there is now. It may take its time.
	emit()
	// at is the revision that the mirror has got to.
	at() int64
}

// observe reads a range of keys and follows its changes until the stream of
// changes can no longer be trusted.
func (d *driver) observe(ctx context.Context, key string, m mirror, opts ...clientv3.OpOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.read(ctx, key, m, opts...); err != nil {
		return err
	}
	// The client resumes a watch silently when the connection was lost. On an
	// etcd that was wiped or restored meanwhile, it would wait for a revision
	// that is far away: so a lost connection ends the watch.
	lost := d.untilLost(ctx)
	changes := d.follow(ctx, key, append(opts, clientv3.WithRev(m.at()+1))...)
	m.emit()
	relist := time.NewTimer(backoff.Around(relistEvery, 0.5))
	defer relist.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lost:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("connection to etcd at %s is lost", strings.Join(d.client.Endpoints(), ", "))
		case response, ok := <-changes:
			// Take what has piled up as one change.
			for more := true; more; {
				switch {
				case !ok:
					return errors.New("etcd ended the watch")
				case response.Err() != nil:
					return response.Err()
				}
				m.apply(response)
				select {
				case response, ok = <-changes:
				default:
					more = false
				}
			}
			m.emit()
		case <-relist.C:
			if err := d.read(ctx, key, m, opts...); err != nil {
				return err
			}
			m.emit()
			relist.Reset(backoff.Around(relistEvery, 0.5))
		}
	}
}

// read reads the whole range into the mirror.
func (d *driver) read(ctx context.Context, key string, m mirror, opts ...clientv3.OpOption) error {
	octx, cancel := d.op(ctx, opTimeout)
	defer cancel()
	response, err := d.client.Get(octx, key, opts...)
	if err != nil {
		return d.explain(octx, err)
	}
	return m.replace(ctx, response)
}

// follow is the client's Watch on a member that has a leader, but it never
// blocks: the client's returns only once a member has answered, which one that
// hangs never does. The channel is closed when the watch or ctx ends.
func (d *driver) follow(ctx context.Context, key string, opts ...clientv3.OpOption) <-chan clientv3.WatchResponse {
	changes := make(chan clientv3.WatchResponse, backlog)
	d.wg.Go(func() {
		defer close(changes)
		for response := range d.client.Watch(clientv3.WithRequireLeader(ctx), key, opts...) {
			select {
			case changes <- response:
			case <-ctx.Done():
				return
			}
		}
	})
	return changes
}

// history is how far a mirror has got, and with which etcd.
type history struct {
	cluster  uint64 // zero before the first read
	listed   int64  // the revision of the latest read
	revision int64  // the latest revision seen
}

func (h *history) at() int64 { return h.revision }

// check returns an error if a response comes from an etcd that is not the one
// from before: then the stream of changes belongs to another history.
func (h *history) check(header *etcdserverpb.ResponseHeader) error {
	switch {
	case h.cluster == 0:
	case header.ClusterId != h.cluster:
		return fmt.Errorf("etcd is another cluster now: ID %x, was %x", header.ClusterId, h.cluster)
	case header.Revision < h.revision:
		return fmt.Errorf("etcd went back in time: revision %d, was %d", header.Revision, h.revision)
	}
	return nil
}

// read notes a response to a read.
func (h *history) read(header *etcdserverpb.ResponseHeader) {
	*h = history{cluster: header.ClusterId, listed: header.Revision, revision: header.Revision}
}

// news returns the events that the latest read has not overtaken.
func (h *history) news(response clientv3.WatchResponse) []*clientv3.Event {
	h.revision = max(h.revision, response.Header.Revision)
	events := response.Events
	for len(events) > 0 && events[0].Kv.ModRevision <= h.listed {
		events = events[1:]
	}
	return events
}
