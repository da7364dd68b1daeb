package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

// relistEvery is how often, give or take half of it, a list is read again
// although the watch says that nothing has changed.
const relistEvery = time.Minute

// Watch lists the service and follows its changes until the stream of changes
// can no longer be trusted.
func (d *driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &serviceView{service: service, prefix: d.prefix + service + "/"}
	if err := d.list(ctx, v); err != nil {
		return err
	}
	// The client resumes a watch silently when the connection was lost. On an
	// etcd that was wiped or restored meanwhile, it would wait for a revision
	// that is far away: so a lost connection ends the watch.
	lost := d.untilLost(ctx)
	emit(v.snapshot())

	changes := d.follow(ctx, v.prefix, clientv3.WithPrefix(), clientv3.WithRev(v.revision+1))
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
				v.apply(response)
				select {
				case response, ok = <-changes:
				default:
					more = false
				}
			}
			emit(v.snapshot())
		case <-relist.C:
			if err := d.list(ctx, v); err != nil {
				return err
			}
			emit(v.snapshot())
			relist.Reset(backoff.Around(relistEvery, 0.5))
		}
	}
}

// follow is the client's Watch on a member that has a leader, but it never
// blocks: the client's returns only once a member has answered, which one that
// hangs never does. The channel is closed when the watch or ctx ends.
func (d *driver) follow(ctx context.Context, key string, opts ...clientv3.OpOption) <-chan clientv3.WatchResponse {
	changes := make(chan clientv3.WatchResponse)
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

// list reads the whole list into the view.
func (d *driver) list(ctx context.Context, v *serviceView) error {
	ctx, cancel := d.op(ctx, opTimeout)
	defer cancel()
	response, err := d.client.Get(ctx, v.prefix, clientv3.WithPrefix())
	if err != nil {
		return d.explain(ctx, err)
	}
	return v.replace(response)
}

// serviceView is one service as the list and the changes so far describe it.
type serviceView struct {
	service string
	prefix  string // of the service's keys, ends with a slash

	cluster  uint64 // zero before the first list
	listed   int64  // the revision of the latest list
	revision int64  // the latest revision seen
	entries  map[string]entry
}

// entry is one key, understood or not.
type entry struct {
	revision int64
	instance registry.Instance
	err      error
}

// replace takes a new list, unless it comes from an etcd that is not the one
// of the list before: then the stream of changes belongs to another history.
func (v *serviceView) replace(response *clientv3.GetResponse) error {
	header := response.Header
	switch {
	case v.cluster == 0:
	case header.ClusterId != v.cluster:
		return fmt.Errorf("etcd is another cluster now: ID %x, was %x", header.ClusterId, v.cluster)
	case header.Revision < v.revision:
		return fmt.Errorf("etcd went back in time: revision %d, was %d", header.Revision, v.revision)
	}
	entries := make(map[string]entry, len(response.Kvs))
	for _, kv := range response.Kvs {
		key := string(kv.Key)
		if e, ok := v.entries[key]; ok && e.revision == kv.ModRevision {
			entries[key] = e
		} else {
			entries[key] = v.read(kv)
		}
	}
	v.cluster, v.listed, v.revision, v.entries = header.ClusterId, header.Revision, header.Revision, entries
	return nil
}

// apply takes changes, in order.
func (v *serviceView) apply(response clientv3.WatchResponse) {
	for _, event := range response.Events {
		if event.Kv.ModRevision <= v.listed {
			continue // a list overtook it
		}
		if event.Type == mvccpb.Event_DELETE {
			delete(v.entries, string(event.Kv.Key))
		} else {
			v.entries[string(event.Kv.Key)] = v.read(event.Kv)
		}
	}
	v.revision = max(v.revision, response.Header.Revision)
}

func (v *serviceView) read(kv *mvccpb.KeyValue) entry {
	e := entry{revision: kv.ModRevision}
	e.instance, e.err = registry.Decode(v.service, strings.TrimPrefix(string(kv.Key), v.prefix), kv.Value)
	return e
}

func (v *serviceView) snapshot() registry.List {
	list := registry.List{Revision: v.revision, Instances: make([]registry.Instance, 0, len(v.entries))}
	for key, e := range v.entries {
		if e.err != nil {
			list.Skipped = append(list.Skipped, registry.Skipped{Key: key, Err: e.err})
		} else {
			list.Instances = append(list.Instances, e.instance)
		}
	}
	return list
}
