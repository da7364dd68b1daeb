package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// override is the stored override of an instance as it was last seen.
type override struct {
	history

	value []byte // nil for none
}

// WatchOverride follows the key of one override. An etcd that was wiped, or
// restored from before the operator wrote it, has not been told that the wish
// is off: the value is put back there.
func (d *driver) WatchOverride(ctx context.Context, service, id string, emit func([]byte)) error {
	v := &overrideView{driver: d, key: overrideKey(d.namespace, service, id), sink: emit}
	return d.observe(ctx, v.key, v)
}

// ClearOverride deletes the key of an override.
func (d *driver) ClearOverride(ctx context.Context, service, id string) error {
	key := overrideKey(d.namespace, service, id)
	d.remember(key, override{})
	ctx, cancel := d.op(ctx, opTimeout)
	defer cancel()
	if _, err := d.client.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, d.explain(ctx, err))
	}
	return nil
}

// remember notes an override for the watches to come.
func (d *driver) remember(key string, o override) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.value == nil {
		delete(d.overrides, key)
	} else {
		d.overrides[key] = o
	}
}

func (d *driver) remembered(key string) override {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.overrides[key]
}

// overrideView is one override as the read and the changes so far describe it.
type overrideView struct {
	override

	driver *driver
	key    string
	sink   func([]byte)
}

func (v *overrideView) replace(ctx context.Context, response *clientv3.GetResponse) error {
	if err := v.check(response.Header); err != nil {
		return err
	}
	last := v.driver.remembered(v.key)
	if len(response.Kvs) == 0 && last.value != nil && last.check(response.Header) != nil {
		if err := v.putBack(ctx, last.value); err == nil {
			return fmt.Errorf("etcd has lost %s, and got it back", v.key)
		} else if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			return fmt.Errorf("put back %s: %w", v.key, err)
		} // else nobody could take it away again either
	}
	v.read(response.Header)
	v.value = nil
	if len(response.Kvs) > 0 {
		v.value = response.Kvs[0].Value
	}
	return nil
}

// putBack writes the value unless there is one by now.
func (v *overrideView) putBack(ctx context.Context, value []byte) error {
	ctx, cancel := v.driver.op(ctx, opTimeout)
	defer cancel()
	_, err := v.driver.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(v.key), "=", 0)).
		Then(clientv3.OpPut(v.key, string(value))).
		Commit()
	return v.driver.explain(ctx, err)
}

func (v *overrideView) apply(response clientv3.WatchResponse) {
	for _, event := range v.news(response) {
		v.value = event.Kv.Value
		if event.Type == mvccpb.Event_DELETE {
			v.value = nil
		}
	}
}

func (v *overrideView) emit() {
	v.driver.remember(v.key, v.override)
	v.sink(v.value)
}
