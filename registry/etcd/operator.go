package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/registry"
)

// ErrUnreachable is what an error of an [Operator] is when etcd does not answer.
var ErrUnreachable = errors.New("etcd is unreachable")

// awaitEvery is how often [Operator.Await] looks.
const awaitEvery = 50 * time.Millisecond

// Operator is the registry as those see it who run services: what is there,
// and what is wanted of it. An override is a wish for one instance, under the
// key <namespace>/operator/<service>/<id>. The instance watches that key,
// follows it, shows it in its own entry, keeps to it over re-registration, and
// deletes the key when it withdraws.
//
// Its methods may be called concurrently. Each operation has a deadline of
// three seconds, fails at once while nobody listens at etcd's addresses, and is
// not repeated.
type Operator struct {
	driver    *driver
	namespace string
}

// NewOperator returns an operator's view of a namespace; an empty one is
// [DefaultNamespace]. It needs no etcd to be there. The caller closes it, and
// after that the client.
func NewOperator(client *clientv3.Client, namespace string) *Operator {
	namespace = cleanNamespace(namespace)
	return &Operator{driver: newDriver(client, namespace), namespace: namespace}
}

// Close ends the operator's goroutines. It does not close the client.
func (o *Operator) Close() error { return o.driver.Close() }

// Services returns the names of the services that have an entry or an
// override, in alphabetical order.
func (o *Operator) Services(ctx context.Context) ([]string, error) {
	var names []string
	for _, prefix := range []string{servicesPrefix(o.namespace), operatorPrefix(o.namespace)} {
		ids, err := o.ids(ctx, prefix)
		if err != nil {
			return nil, fmt.Errorf("list services: %w", err)
		}
		for _, id := range ids {
			service, _, _ := strings.Cut(id, "/")
			names = append(names, service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Instances returns the instances of a service as they are in etcd now, and
// the entries that are none, in alphabetical order. An unknown service has
// neither; that is no error.
func (o *Operator) Instances(ctx context.Context, service string) ([]registry.Instance, []registry.Skipped, error) {
	prefix := servicePrefix(o.namespace, service)
	kvs, err := o.list(ctx, prefix)
	if err != nil {
		return nil, nil, fmt.Errorf("list instances of %s: %w", service, err)
	}
	var instances []registry.Instance
	var skipped []registry.Skipped
	for _, kv := range kvs {
		inst, err := registry.Decode(service, strings.TrimPrefix(string(kv.Key), prefix), kv.Value)
		if err != nil {
			skipped = append(skipped, registry.Skipped{Key: string(kv.Key), Err: err})
			continue
		}
		instances = append(instances, inst)
	}
	return instances, skipped, nil
}

// Find returns the instance with the given ID, or the only one whose ID begins
// so. The service and a slash may precede it. Where the error is not about
// etcd or an entry that is no instance, it is a [*NotFoundError] or an
// [*AmbiguousError].
func (o *Operator) Find(ctx context.Context, idOrPrefix string) (registry.Instance, error) {
	all, err := o.ids(ctx, servicesPrefix(o.namespace))
	if err != nil {
		return registry.Instance{}, fmt.Errorf("find instance %q: %w", idOrPrefix, err)
	}
	match, err := pick(all, idOrPrefix)
	if err != nil {
		return registry.Instance{}, err
	}
	service, id, _ := strings.Cut(match, "/")
	inst, _, err := o.instance(ctx, service, id)
	return inst, err
}

// Override returns what is wanted of an instance, the zero Override where
// nothing is.
func (o *Operator) Override(ctx context.Context, service, id string) (registry.Override, error) {
	kv, err := o.get(ctx, overrideKey(o.namespace, service, id))
	if err != nil || kv == nil {
		return registry.Override{}, err
	}
	override, err := registry.DecodeOverride(kv.Value)
	if err != nil {
		return registry.Override{}, fmt.Errorf("read %s: %w", kv.Key, err)
	}
	return override, nil
}

// Overrides returns what is wanted of the instances of a service, by ID, and
// the entries that are no overrides. The instances need not be there: one that
// died has left its override behind.
func (o *Operator) Overrides(ctx context.Context, service string) (map[string]registry.Override, []registry.Skipped, error) {
	prefix := overrideKey(o.namespace, service, "")
	kvs, err := o.list(ctx, prefix)
	if err != nil {
		return nil, nil, fmt.Errorf("list overrides of %s: %w", service, err)
	}
	overrides := make(map[string]registry.Override, len(kvs))
	var skipped []registry.Skipped
	for _, kv := range kvs {
		override, err := registry.DecodeOverride(kv.Value)
		if err != nil {
			skipped = append(skipped, registry.Skipped{Key: string(kv.Key), Err: err})
			continue
		}
		overrides[strings.TrimPrefix(string(kv.Key), prefix)] = override
	}
	return overrides, skipped, nil
}

// SetOverride says what is wanted of an instance, in place of what was wanted
// before; the zero Override clears that. It returns an error for an override
// that is not valid, and a [*NotFoundError] for an instance that is not there.
// It does not wait for the instance: see [Operator.Await].
func (o *Operator) SetOverride(ctx context.Context, service, id string, override registry.Override) error {
	_, err := o.ChangeOverride(ctx, service, id, func(registry.Override) registry.Override { return override })
	return err
}

// ClearOverride takes back what is wanted of an instance, which need not be
// there any more. To clear nothing is no error.
func (o *Operator) ClearOverride(ctx context.Context, service, id string) error {
	return o.explain(ctx, o.driver.ClearOverride(ctx, service, id))
}

// Change is what [Operator.ChangeOverride] did.
type Change struct {
	Before, After registry.Override
	// Revision is etcd's revision after the change: an entry with a higher one
	// was written later.
	Revision int64
}

// ChangeOverride is [Operator.SetOverride] with what change makes of the
// override there is, the zero Override if there is none. Operators who do this
// to one instance at the same time do not undo each other's work: change is
// called again if somebody else was faster. An entry that is no override counts
// as none.
func (o *Operator) ChangeOverride(ctx context.Context, service, id string, change func(registry.Override) registry.Override) (Change, error) {
	name := service + "/" + id
	entry, key := instanceKey(o.namespace, service, id), overrideKey(o.namespace, service, id)
	for {
		kv, err := o.get(ctx, key)
		if err != nil {
			return Change{}, fmt.Errorf("change override of %s: %w", name, err)
		}
		var done Change
		var known int64 // zero is etcd's revision of a key that is not there
		if kv != nil {
			known = kv.ModRevision
			done.Before, _ = registry.DecodeOverride(kv.Value)
		}
		done.After = change(done.Before)
		write := clientv3.OpDelete(key)
		if wants(done.After) {
			value, err := registry.EncodeOverride(done.After)
			if err != nil {
				return Change{}, fmt.Errorf("change override of %s: %w", name, err)
			}
			write = clientv3.OpPut(key, string(value))
		}
		var there, written bool
		done.Revision, there, written, err = o.replace(ctx, entry, key, known, write)
		switch {
		case err != nil:
			return Change{}, fmt.Errorf("change override of %s: %w", name, err)
		case !there:
			return Change{}, &NotFoundError{ID: name}
		case written:
			return done, nil
		}
	}
}

// replace writes the key if that is still as known and the entry is there. A write that
// is on its way is not cut off when ctx ends: nobody would know whether it was done.
func (o *Operator) replace(ctx context.Context, entry, key string, known int64, write clientv3.Op) (revision int64, there, written bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, false, false, err
	}
	ctx, cancel := o.driver.op(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	response, err := o.driver.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(entry), ">", 0), clientv3.Compare(clientv3.ModRevision(key), "=", known)).
		Then(write).
		Else(clientv3.OpGet(entry, clientv3.WithCountOnly())).
		Commit()
	if err != nil {
		return 0, false, false, o.explain(ctx, err)
	}
	there = response.Succeeded || response.Responses[0].GetResponseRange().GetCount() > 0
	return response.Header.Revision, there, response.Succeeded, nil
}

// Await returns the instance once shows is true of it and of etcd's revision of
// its entry. When ctx ends before, it returns the instance as it was last, and
// why ctx ended. The error is a [*NotFoundError] if the instance is gone.
func (o *Operator) Await(ctx context.Context, service, id string, shows func(inst registry.Instance, revision int64) bool) (registry.Instance, error) {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	var last registry.Instance
	for {
		inst, revision, err := o.instance(ctx, service, id)
		switch {
		case ctx.Err() != nil:
			return last, context.Cause(ctx)
		case err != nil:
			return last, err
		case shows(inst, revision):
			return inst, nil
		}
		last = inst
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
	}
}

// wants reports whether the override is worth a key.
func wants(o registry.Override) bool { return o.State == registry.Draining || o.Weight != 0 }

// instance reads one entry.
func (o *Operator) instance(ctx context.Context, service, id string) (registry.Instance, int64, error) {
	kv, err := o.get(ctx, instanceKey(o.namespace, service, id))
	if err != nil {
		return registry.Instance{}, 0, err
	}
	if kv == nil {
		return registry.Instance{}, 0, &NotFoundError{ID: service + "/" + id}
	}
	inst, err := registry.Decode(service, id, kv.Value)
	if err != nil {
		return registry.Instance{}, 0, fmt.Errorf("read %s: %w", kv.Key, err)
	}
	return inst, kv.ModRevision, nil
}

// ids returns service/id of each key below a prefix, in alphabetical order.
func (o *Operator) ids(ctx context.Context, prefix string) ([]string, error) {
	kvs, err := o.list(ctx, prefix, clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(kvs))
	for i, kv := range kvs {
		ids[i] = strings.TrimPrefix(string(kv.Key), prefix)
	}
	return ids, nil
}

// list reads the keys below a prefix, which etcd returns in alphabetical order.
func (o *Operator) list(ctx context.Context, prefix string, opts ...clientv3.OpOption) ([]*mvccpb.KeyValue, error) {
	ctx, cancel := o.driver.op(ctx, opTimeout)
	defer cancel()
	response, err := o.driver.client.Get(ctx, prefix, append(opts, clientv3.WithPrefix())...)
	if err != nil {
		return nil, o.explain(ctx, err)
	}
	return response.Kvs, nil
}

// get reads one key, nil if it is not there.
func (o *Operator) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	ctx, cancel := o.driver.op(ctx, opTimeout)
	defer cancel()
	response, err := o.driver.client.Get(ctx, key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", key, o.explain(ctx, err))
	case len(response.Kvs) == 0:
		return nil, nil
	}
	return response.Kvs[0], nil
}

// explain makes an etcd that does not answer an [ErrUnreachable].
func (o *Operator) explain(ctx context.Context, err error) error {
	err = o.driver.explain(ctx, err)
	if errors.Is(err, errNoConnection) || errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.Unavailable {
		return unreachable{err}
	}
	return err
}

type unreachable struct{ error }

func (u unreachable) Unwrap() error        { return u.error }
func (u unreachable) Is(target error) bool { return target == ErrUnreachable }
