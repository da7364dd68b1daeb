package consul

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"plinth.internal/registry"
)

// markTime is how long the catalog has shown an instance as draining before it
// is deleted. Consul gives a watcher no history: a mark that is shorter than
// its pace may be missed, and the instance then seems to have died.
const markTime = 5 * queryPace

// errTaken is why an entry is lost that is there, but is not ours.
var errTaken = errors.New("entry changed by somebody else")

// registration is one entry that is kept alive. Its goroutine, keep, passes
// the check; whoever talks to the agent holds turn.
type registration struct {
	registry.Doubts // that of the last beat

	// Immutable.
	driver    driver
	service   string
	serviceID string
	owner     string // tells this registration from an earlier or a foreign one
	ttl       time.Duration
	cancel    context.CancelFunc
	done      chan struct{} // closed when keep has ended
	lost      chan struct{}

	turn chan struct{} // capacity 1: full while somebody talks to the agent

	// Guarded by turn.
	meta map[string]string // what the entry must say; nil while that is not known
	good time.Time         // when the entry was last known to be there
	mark time.Time         // since when the catalog shows it as draining; zero if it does not
	err  error             // why it is lost; set once, before lost is closed
}

func (d driver) Register(ctx context.Context, inst registry.Instance, ttl time.Duration) (registry.Registration, error) {
	keep, cancel := context.WithCancel(context.Background())
	r := &registration{
		driver:    d,
		service:   inst.Service,
		serviceID: serviceID(inst.Service, inst.ID),
		owner:     rand.Text(),
		ttl:       ttl,
		cancel:    cancel,
		done:      make(chan struct{}),
		lost:      make(chan struct{}),
		turn:      make(chan struct{}, 1),
	}
	if err := r.write(ctx, inst); err != nil {
		cancel()
		return nil, err // the check is not passed, so it turns critical after the TTL
	}
	go r.keep(keep)
	return r, nil
}

// write tells the agent and waits until the catalog has it. The caller holds
// turn, or is alone.
func (r *registration) write(ctx context.Context, inst registry.Instance) error {
	reg, err := registrationOf(inst, r.owner, r.ttl)
	if err != nil {
		return err
	}
	r.meta = nil
	began := time.Now()
	options := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)
	if err := r.driver.client.Agent().ServiceRegisterOpts(reg, options); err != nil {
		return fmt.Errorf("register with the consul agent: %w", err)
	}
	r.meta, r.good = reg.Meta, began
	err = r.driver.settle(ctx, r.service, func(entries []*api.ServiceEntry) bool {
		return slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return maps.Equal(e.Service.Meta, reg.Meta) })
	})
	switch {
	case err != nil:
		return err
	case inst.State != registry.Draining:
		r.mark = time.Time{}
	case r.mark.IsZero():
		r.mark = time.Now()
	}
	return nil
}

// keep passes the check until ctx ends or the entry is lost.
func (r *registration) keep(ctx context.Context) {
	defer close(r.done)
	tick := time.NewTicker(r.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if r.beat(ctx) {
			return
		}
	}
}

// beat passes the check of an entry that is still ours, and reports whether it
// is lost.
func (r *registration) beat(outer context.Context) (lost bool) {
	ctx, cancel := context.WithTimeout(outer, min(r.ttl/3, registry.OperationTimeout))
	defer cancel()
	if r.take(ctx) != nil {
		return false // an update is under way, and renews it too
	}
	defer r.give()
	began := time.Now()
	err := r.verify(ctx)
	if err == nil {
		options := (&api.QueryOptions{}).WithContext(ctx)
		err = r.driver.client.Agent().UpdateTTLOpts(checkID(r.serviceID), "", api.HealthPassing, options)
	}
	switch {
	case err == nil:
		r.good = began
		r.SetDoubt(nil)
	case errors.Is(err, errTaken), gone(err), time.Since(r.good) >= r.ttl:
		r.loseLocked(err)
	case outer.Err() == nil:
		r.SetDoubt(err)
	}
	return r.err != nil
}

// verify returns an error if the agent does not have the entry as it was
// written: errTaken if it has another one.
func (r *registration) verify(ctx context.Context) error {
	options := (&api.QueryOptions{}).WithContext(ctx)
	entry, _, err := r.driver.client.Agent().Service(r.serviceID, options)
	if err != nil {
		return fmt.Errorf("read the entry from the consul agent: %w", err)
	}
	if entry.Meta[metaOwner] != r.owner || (r.meta != nil && !maps.Equal(entry.Meta, r.meta)) {
		return errTaken
	}
	return nil
}

// take gets the turn to talk to the agent.
func (r *registration) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *registration) give() { <-r.turn }

func (r *registration) loseLocked(err error) {
	if r.err == nil {
		r.err = err
		close(r.lost)
	}
}

func (r *registration) Update(ctx context.Context, inst registry.Instance) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	if r.err != nil {
		return fmt.Errorf("entry is lost: %w", r.err)
	}
	// Another process may have taken the instance over.
	if err := r.verify(ctx); err != nil {
		if errors.Is(err, errTaken) || gone(err) {
			r.loseLocked(err)
		}
		return err
	}
	return r.write(ctx, inst)
}

func (r *registration) Lost() <-chan struct{} { return r.lost }

func (r *registration) Err() error {
	select {
	case <-r.lost:
		return r.err // not changed any more
	default:
		return nil
	}
}

func (r *registration) Withdraw(ctx context.Context) error {
	r.cancel()
	<-r.done // its requests end with it
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	if !r.mark.IsZero() {
		select {
		case <-time.After(markTime - time.Since(r.mark)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := r.verify(ctx)
	if err == nil {
		options := (&api.QueryOptions{}).WithContext(ctx)
		err = r.driver.client.Agent().ServiceDeregisterOpts(r.serviceID, options)
	}
	switch {
	case errors.Is(err, errTaken):
		return nil
	case err != nil && !gone(err):
		return fmt.Errorf("deregister from the consul agent: %w", err)
	}
	return r.driver.settle(ctx, r.service, func(entries []*api.ServiceEntry) bool {
		return !slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return e.Service.Meta[metaOwner] == r.owner })
	})
}
