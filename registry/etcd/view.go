package etcd

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

// Watch lists the service and follows its changes until the stream of changes
// can no longer be trusted.
func (d *driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	v := &serviceView{service: service, prefix: servicePrefix(d.namespace, service), sink: emit}
	return d.observe(ctx, v.prefix, v, clientv3.WithPrefix())
}

// serviceView is one service as the list and the changes so far describe it.
type serviceView struct {
	history

	service string
	prefix  string // of the service's keys, ends with a slash
	sink    func(registry.List)

	entries   map[string]entry // by key
	withdrawn []string         // IDs that were deleted while draining, since the last emit
}

// entry is one key, understood or not.
type entry struct {
	revision int64
	instance registry.Instance
	err      error
}

func (v *serviceView) replace(_ context.Context, response *clientv3.GetResponse) error {
	if err := v.check(response.Header); err != nil {
		return err
	}
	entries := make(map[string]entry, len(response.Kvs))
	for _, kv := range response.Kvs {
		key := string(kv.Key)
		if e, ok := v.entries[key]; ok && e.revision == kv.ModRevision {
			entries[key] = e
		} else {
			entries[key] = v.decode(kv)
		}
	}
	v.read(response.Header)
	v.entries = entries
	return nil
}

func (v *serviceView) apply(response clientv3.WatchResponse) {
	for _, event := range v.news(response) {
		key := string(event.Kv.Key)
		if event.Type != mvccpb.Event_DELETE {
			v.entries[key] = v.decode(event.Kv)
			continue
		}
		// The mark may have come and gone within one change.
		if e := v.entries[key]; e.instance.State == registry.Draining {
			v.withdrawn = append(v.withdrawn, e.instance.ID)
		}
		delete(v.entries, key)
	}
}

func (v *serviceView) decode(kv *mvccpb.KeyValue) entry {
	e := entry{revision: kv.ModRevision}
	e.instance, e.err = registry.Decode(v.service, strings.TrimPrefix(string(kv.Key), v.prefix), kv.Value)
	return e
}

func (v *serviceView) emit() {
	list := v.snapshot()
	v.withdrawn = nil
	v.sink(list)
}

func (v *serviceView) snapshot() registry.List {
	list := registry.List{
		Revision:  v.revision,
		Instances: make([]registry.Instance, 0, len(v.entries)),
		Withdrawn: v.withdrawn,
	}
	for key, e := range v.entries {
		if e.err != nil {
			list.Skipped = append(list.Skipped, registry.Skipped{Key: key, Err: e.err})
		} else {
			list.Instances = append(list.Instances, e.instance)
		}
	}
	return list
}
