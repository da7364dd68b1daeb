package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"plinth.internal/registry"
)

const (
	// queryWait is how long Consul may hold a query while nothing changes.
	queryWait = 10 * time.Second
	// queryPace is the shortest time between two queries: the index also
	// changes for reasons that have nothing to do with the service.
	queryPace = 100 * time.Millisecond
	// settlePace is the same for the few queries that follow a write.
	settlePace = 10 * time.Millisecond
)

// Open returns a registry on the given client, which talks to the local agent
// and belongs to the caller. It does not block and needs no agent to be there.
// Several registries may share a client. Registries of different Consul
// clusters need different directories for [registry.WithSnapshots].
func Open(client *api.Client, opts ...registry.Option) *registry.Registry {
	return registry.New(driver{client}, opts...)
}

// driver is Consul as registry.Driver sees it.
type driver struct{ client *api.Client }

func (driver) Kind() string { return "consul" }

func (driver) Close() error { return nil }

// Watch follows the service with blocking queries.
func (d driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	var index uint64
	for {
		began := time.Now()
		entries, got, err := d.query(ctx, service, index)
		if err != nil {
			return err
		}
		emit(listOf(service, entries, got))
		index = nextIndex(index, got)
		select {
		case <-time.After(queryPace - time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// query asks for the entries of a service: at once with index 0, else when
// they are newer than that or queryWait is over.
func (d driver) query(ctx context.Context, service string, index uint64) ([]*api.ServiceEntry, uint64, error) {
	timeout := registry.OperationTimeout
	if index > 0 {
		// "A small random amount of additional wait time is added ... up to
		// wait / 16" - Consul, blocking queries.
		timeout += queryWait + queryWait/16
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: queryWait}).WithContext(ctx)
	entries, meta, err := d.client.Health().Service(service, "", false, options)
	if err != nil {
		return nil, 0, fmt.Errorf("list the service in consul: %w", err)
	}
	return entries, meta.LastIndex, nil
}

// nextIndex returns the index to wait for after an answer.
//
// "Reset the index if it goes backwards": after a restore, for example, the
// old index would not be reached for a long time. "Sanity check index is
// greater than zero": else the next query would not wait - Consul, blocking
// queries.
func nextIndex(asked, got uint64) uint64 {
	if got < asked {
		return 0
	}
	return max(got, 1)
}

// settle waits until the catalog shows what the agent has been told, which the
// agent passes on in the background.
func (d driver) settle(ctx context.Context, service string, done func([]*api.ServiceEntry) bool) error {
	var index uint64
	for {
		began := time.Now()
		entries, got, err := d.query(ctx, service, index)
		if err != nil {
			return fmt.Errorf("wait for the consul agent to pass it on: %w", err)
		}
		if done(entries) {
			return nil
		}
		index = nextIndex(index, got)
		select {
		case <-time.After(settlePace - time.Since(began)):
		case <-ctx.Done():
			return fmt.Errorf("wait for the consul agent to pass it on: %w", ctx.Err())
		}
	}
}

// gone reports whether Consul said that what was asked for does not exist.
func gone(err error) bool {
	status, ok := errors.AsType[api.StatusError](err)
	return ok && status.Code == http.StatusNotFound
}
