package pscmd

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"plinth.internal/cmd/scaffold/internal/access"
	"plinth.internal/registry"
)

// readsAtOnce bounds the services that are read at the same time.
const readsAtOnce = 8

// row is one instance, as the registry, its operator and it itself see it.
type row struct {
	inst     registry.Instance
	override registry.Override
	health   health
}

// list is one look at the registry.
type list struct {
	at   time.Time
	rows []row
	// odd are the entries that are no instances and the overrides of instances
	// that are gone.
	odd []registry.Skipped
}

// errGone is why the override of an instance that is not there is listed.
func errGone(service, id string) error {
	return errors.New("an override of an instance that is gone, take it away with: scaffold undrain " + service + "/" + id)
}

// look reads one service, or all where service is empty, and asks every
// instance for its health. The error is about the registry; what instances say
// or do not say is part of the list.
func look(ctx context.Context, r *access.Registry, service string) (list, error) {
	services := []string{service}
	if service == "" {
		var err error
		if services, err = r.Services(ctx); err != nil {
			return list{}, err
		}
	}
	l := list{at: time.Now()}
	parts := make([]list, len(services))
	errs := make([]error, len(services))
	each(len(services), readsAtOnce, func(i int) { parts[i], errs[i] = read(ctx, r, services[i]) })
	for i, part := range parts {
		if errs[i] != nil {
			return list{}, errs[i] // the others say the same
		}
		l.rows = append(l.rows, part.rows...)
		l.odd = append(l.odd, part.odd...)
	}
	each(len(l.rows), probesAtOnce, func(i int) { l.rows[i].health = probe(ctx, l.rows[i].inst) })
	return l, nil
}

// read is look for one service, without health.
func read(ctx context.Context, r *access.Registry, service string) (list, error) {
	instances, odd, err := r.Instances(ctx, service)
	if err != nil {
		return list{}, err
	}
	overrides, oddOverrides, err := r.Overrides(ctx, service)
	if err != nil {
		return list{}, err
	}
	l := list{odd: append(odd, oddOverrides...)}
	for _, inst := range instances {
		l.rows = append(l.rows, row{inst: inst, override: overrides[inst.ID]})
		delete(overrides, inst.ID)
	}
	for id := range overrides {
		l.odd = append(l.odd, registry.Skipped{Key: service + "/" + id, Err: errGone(service, id)})
	}
	slices.SortFunc(l.odd, func(a, b registry.Skipped) int { return cmp.Compare(a.Key, b.Key) })
	return l, nil
}
