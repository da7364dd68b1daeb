package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
)

// opTimeout bounds every operation.
const opTimeout = registry.OperationTimeout

// errNoConnection is why an operation ended before its deadline.
var errNoConnection = errors.New("connection refused or lost")

// Open returns a registry on the given client, which the caller has made, with
// [Dial] for example, and closes after the registry. It does not block and
// needs no etcd to be there. Several registries may share a client.
func Open(client *clientv3.Client, opts ...Option) *registry.Registry {
	o := newOptions(opts)
	return registry.New(newDriver(client, o.namespace), o.registry...)
}

// driver is etcd as registry.Driver sees it.
type driver struct {
	// Immutable.
	client    *clientv3.Client
	namespace string
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc

	link *link
	wg   sync.WaitGroup // goroutines that live until ctx ends or earlier

	mu        sync.Mutex
	overrides map[string]override // by key; those that were there when last seen
}

func newDriver(client *clientv3.Client, namespace string) *driver {
	ctx, cancel := context.WithCancel(context.Background())
	d := &driver{
		client:    client,
		namespace: namespace,
		ctx:       ctx,
		cancel:    cancel,
		link:      newLink(),
		overrides: make(map[string]override),
	}
	d.wg.Go(func() { d.link.follow(ctx, client.ActiveConnection()) })
	return d
}

func (d *driver) Kind() string { return "etcd" }

func (d *driver) Scope() string { return d.namespace }

func (d *driver) Close() error {
	d.cancel()
	d.wg.Wait()
	return nil
}

func (d *driver) Reachable() <-chan struct{} { return d.link.whenUp() }

// op returns the context for one operation: it has a deadline, and ends when
// connecting fails, because the client would wait for the deadline then.
func (d *driver) op(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancelTimeout := context.WithTimeout(ctx, timeout)
	ctx, cancel := context.WithCancelCause(ctx)
	broken := d.link.whenBroken()
	go func() {
		select {
		case <-broken:
			cancel(errNoConnection)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(context.Canceled)
		cancelTimeout()
	}
}

// explain says what an error of an operation means; nil stays nil. It must be
// called before the operation's context is cancelled.
func (d *driver) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("etcd has no space left, compact and defragment it and then disarm its alarm: %w", err)
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("etcd does not allow that to user %q, grant its role what docs/etcd.md lists: %w", d.client.Username, err)
	case ctx.Err() == nil:
		return err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errNoConnection):
		err = cause
	case errors.Is(cause, context.DeadlineExceeded):
		err = context.DeadlineExceeded
	default:
		return cause
	}
	return fmt.Errorf("etcd at %s does not answer, is it running and reachable from here: %w",
		strings.Join(d.client.Endpoints(), ", "), err)
}
