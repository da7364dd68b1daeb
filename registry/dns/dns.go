package dns

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"plinth.internal/registry"
)

// Open returns a registry that finds the instances of a service under the
// given name, in which [Placeholder], "{service}", stands for the service:
//
//	{service}.prod.svc.cluster.local.:9000          address records, with this port
//	_grpc._tcp.{service}.prod.svc.cluster.local.    SRV records
//
// The endpoints get the protocol [DefaultEndpoint] in the first case and that
// of the first label in the second, unless the name begins with another one,
// as in "http={service}.prod.svc.cluster.local.:8080". Several names, one per
// protocol, are separated by commas. The first one makes the instances; the
// others add their endpoints to those that have the same address, and to
// nobody where an address has several instances, because DNS does not say
// whose port it is.
//
// The error says which name or option is not valid, and why. No lookup is done
// before a service is watched.
func Open(names string, opts ...Option) (*registry.Registry, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("open dns registry: %w", err)
	}
	parsed, err := parse(names)
	if err != nil {
		return nil, fmt.Errorf("open dns registry: %w", err)
	}
	return registry.New(&driver{names: parsed, options: o}, o.registry...), nil
}

// driver is DNS as registry.Driver sees it. It is never changed.
type driver struct {
	names   []name
	options options
}

func (*driver) Kind() string { return "dns" }

// Scope is short, because it becomes part of a file name.
func (d *driver) Scope() string {
	sum := sha256.Sum256(fmt.Append(nil, d.names, d.options.server, d.options.network))
	return "-" + hex.EncodeToString(sum[:8])
}

func (*driver) Close() error { return nil }

func (*driver) Register(context.Context, registry.Instance, time.Duration) (registry.Registration, error) {
	return nil, registry.ErrReadOnly
}

// Watch looks the service up at intervals. It returns the first failure:
// Registry calls it again, with backoff.
func (d *driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	for {
		began := time.Now()
		list, ttl, err := d.list(ctx, service)
		if err != nil {
			return err
		}
		emit(list)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d.options.wait(ttl) - time.Since(began)):
		}
	}
}

// wait returns how long an answer with the given time to live is used; a
// negative one is not known. Never less: a cache would give the same answer.
func (o options) wait(ttl time.Duration) time.Duration {
	if ttl < 0 {
		ttl = UnknownRefresh
	}
	ttl = min(max(ttl, o.min), o.max)
	return ttl + time.Duration(rand.Int64N(int64(ttl)/5+1))
}

// list looks up the service under all its names.
func (d *driver) list(ctx context.Context, service string) (registry.List, time.Duration, error) {
	l := newLookup(ctx, d.options)
	defer l.end()
	found := make([][]target, len(d.names))
	for i, n := range d.names {
		var err error
		if found[i], err = l.targets(n, n.of(service)); err != nil {
			return registry.List{}, 0, fmt.Errorf("look up %s: %w", n.of(service), err)
		}
	}
	list := assemble(service, d.names, found)
	list.Skipped = append(list.Skipped, l.skipped...)
	return list, l.ttl(), nil
}
