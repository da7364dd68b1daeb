package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

// Elector holds elections in etcd. A candidate is the key
// <namespace>/elections/<name>/<lease> under a lease of its own; the one that
// was created first leads, and each of the others watches the one before it.
//
// What is guaranteed: the lease is renewed every sixth of its TTL, and Lost is
// closed half a TTL after the last renewal that etcd has confirmed, counted from
// when it was sent. Etcd keeps the key for a whole TTL from when that renewal
// arrived. So between Lost and the next leader there is at least half a TTL, 5
// seconds unless [WithElectionTTL] says otherwise, for the work to end. An outage
// of etcd that is shorter than a quarter of a TTL costs nobody the leadership.
//
// What is not: a process that is stopped at the wrong moment, a machine that is
// suspended, and clocks that run at different speeds can make two of them
// believe that they lead. The same is true for a moment when somebody deletes
// the key, or etcd loses its data; the leader notices the first at once, the
// second when the connection is back. [registry.Leadership.Fence] is the revision
// at which the key was created, and protects from all but a loss of data, after
// which revisions begin anew.
type Elector struct {
	driver *driver
	ttl    time.Duration
}

var _ registry.Elector = (*Elector)(nil)

// NewElector returns an elector on a client, which the caller has made, with
// [Dial] for example, and closes after the elector. It does not block and needs
// no etcd to be there. The options that matter are [WithNamespace] and
// [WithElectionTTL].
func NewElector(client *clientv3.Client, opts ...Option) *Elector {
	o := newOptions(opts)
	ttl := max(o.electionTTL, registry.MinTTL)
	if o.electionTTL == 0 {
		ttl = registry.DefaultTTL
	}
	if part := ttl % time.Second; part != 0 {
		ttl += time.Second - part
	}
	return &Elector{driver: newDriver(client, o.namespace), ttl: ttl}
}

// WithElectionTTL sets how long the key of a leader that died stays, for
// [NewElector]: the next candidate waits that long. The default, and zero, is
// [registry.DefaultTTL], 10 seconds; a fraction of a second is rounded up, and
// less than [registry.MinTTL] raised to it.
func WithElectionTTL(ttl time.Duration) Option {
	return optionFunc(func(o *options) { o.electionTTL = ttl })
}

// Close ends all candidacies. A leadership that was not resigned before is lost,
// and its key stays until the lease expires.
func (e *Elector) Close() error { return e.driver.Close() }

// Campaign stands for the leadership of that name, a service and a job for
// example, and returns when this candidate leads. It fails when etcd does not
// answer, and when the lease cannot be kept while it waits.
func (e *Elector) Campaign(ctx context.Context, name, candidate string) (registry.Leadership, error) {
	c, err := e.enter(ctx, electionPrefix(e.driver.namespace, name), candidate)
	if err != nil {
		return nil, fmt.Errorf("stand for the election of %s: %w", name, err)
	}
	if err := c.await(ctx); err != nil {
		_ = c.Resign(ctx) // it is tried again in the background
		return nil, fmt.Errorf("wait for the election of %s: %w", name, err)
	}
	return c, nil
}

// candidacy is one key under its lease. Its goroutine, keep, renews the lease and
// watches the key.
type candidacy struct {
	// Immutable.
	driver   *driver
	prefix   string
	key      string
	ttl      time.Duration
	lease    clientv3.LeaseID
	revision int64              // at which the key was created
	stop     context.CancelFunc // ends keep
	done     chan struct{}      // closed when keep has ended
	lost     chan struct{}      // closed with err
	doubt    *time.Timer        // loses the candidacy unless a renewal puts it off

	mu  sync.Mutex
	err error // why it is lost
}

// errDoubt is why a candidacy ends whose lease may still be there.
var errDoubt = errors.New("etcd has not confirmed the lease for half of its TTL")

// enter puts the key of a new candidate and begins to keep it alive.
func (e *Elector) enter(ctx context.Context, prefix, candidate string) (*candidacy, error) {
	d := e.driver
	ctx, cancel := d.op(ctx, opTimeout)
	defer cancel()
	// The lease lives from when etcd grants it, which is not before now.
	granted := time.Now()
	lease, err := d.client.Grant(ctx, int64(e.ttl/time.Second))
	if err != nil {
		return nil, fmt.Errorf("grant lease: %w", d.explain(ctx, err))
	}
	key := prefix + strconv.FormatInt(int64(lease.ID), 16)
	put, err := d.client.Put(ctx, key, candidate, clientv3.WithLease(lease.ID))
	if err != nil {
		err = fmt.Errorf("put %s: %w", key, d.explain(ctx, err))
		d.wg.Go(func() { d.revokeEventually(lease.ID) })
		return nil, err
	}
	kctx, stop := context.WithCancel(d.ctx)
	c := &candidacy{
		driver: d, prefix: prefix, key: key, ttl: e.ttl, lease: lease.ID, revision: put.Header.Revision,
		stop: stop, done: make(chan struct{}), lost: make(chan struct{}),
	}
	c.doubt = time.AfterFunc(time.Until(granted.Add(c.ttl/2)), func() { c.lose(errDoubt) })
	d.wg.Go(func() { c.keep(kctx) })
	return c, nil
}

// keep renews the lease and checks the key, until ctx ends or the candidacy is
// lost.
func (c *candidacy) keep(ctx context.Context) {
	defer close(c.done)
	defer c.doubt.Stop()
	pause := c.ttl / 6
	changes := c.driver.follow(ctx, c.key, clientv3.WithRev(c.revision+1))
	renew := time.NewTimer(backoff.Around(pause, 0.1))
	defer renew.Stop()
	verify := time.NewTimer(backoff.Around(verifyEvery, 0.2))
	defer verify.Stop()
	up := c.driver.link.whenUp()
	for {
		select {
		case <-ctx.Done():
			if c.driver.ctx.Err() != nil {
				c.lose(errors.New("the elector was closed"))
			}
			return
		case <-c.lost:
			return
		case <-up: // it may be another etcd, or one without our lease
			up = c.driver.link.whenUp()
			renew.Reset(0)
			verify.Reset(0)
		case <-renew.C:
			if c.renew(ctx) {
				renew.Reset(backoff.Around(pause, 0.1))
			} else {
				renew.Reset(backoff.Around(pause/4, 0.5))
			}
		case <-verify.C:
			at, ok := c.verify(ctx)
			if ok && changes == nil {
				changes = c.driver.follow(ctx, c.key, clientv3.WithRev(at+1))
			}
			verify.Reset(backoff.Around(verifyEvery, 0.2))
		case response, ok := <-changes:
			if !ok || response.Err() != nil {
				changes = nil // it may have changed unseen
				verify.Reset(backoff.FullJitter(pause, pause, 0))
				continue
			}
			if slices.ContainsFunc(response.Events, func(event *clientv3.Event) bool { return event.Type == mvccpb.Event_DELETE }) {
				c.lose(fmt.Errorf("%s was deleted by somebody else, or its lease has expired", c.key))
			}
		}
	}
}

// renew renews the lease once and reports whether that is confirmed.
func (c *candidacy) renew(ctx context.Context) bool {
	// Leave time for another attempt.
	ctx, cancel := c.driver.op(ctx, min(opTimeout, max(c.ttl/6, hurry/2)))
	defer cancel()
	// The lease is extended from when etcd gets this, which is not before now.
	began := time.Now()
	_, err := c.driver.client.KeepAliveOnce(ctx, c.lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		c.lose(errors.New("the lease has expired"))
	}
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.doubt.Reset(time.Until(began.Add(c.ttl / 2)))
	}
	return true
}

// verify reads the key and returns the revision at which it was ours.
func (c *candidacy) verify(ctx context.Context) (at int64, ok bool) {
	ctx, cancel := c.driver.op(ctx, opTimeout)
	defer cancel()
	response, err := c.driver.client.Get(ctx, c.key)
	if err != nil {
		return 0, false // not known is not lost
	}
	if len(response.Kvs) == 0 || response.Kvs[0].CreateRevision != c.revision {
		c.lose(fmt.Errorf("%s is gone", c.key))
		return 0, false
	}
	return response.Header.Revision, true
}

// await waits until nobody has stood before this candidate.
func (c *candidacy) await(ctx context.Context) error {
	for {
		before, at, err := c.predecessor(ctx)
		if c.Err() != nil {
			return c.Err()
		}
		if err == nil && before == "" {
			return nil
		}
		if err := c.awaitEnd(ctx, before, at); err != nil {
			return err
		}
	}
}

// predecessor is the key of the candidate that stood before this one, "" for
// none, as it was at a revision.
func (c *candidacy) predecessor(ctx context.Context) (key string, at int64, err error) {
	octx, cancel := c.driver.op(ctx, opTimeout)
	defer cancel()
	response, err := c.driver.client.Get(octx, c.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return "", 0, err
	}
	candidates := slices.DeleteFunc(response.Kvs, func(kv *mvccpb.KeyValue) bool {
		return bytes.ContainsRune(kv.Key[len(c.prefix):], '/') // of another election, whose name begins with this one's
	})
	own := slices.IndexFunc(candidates, func(kv *mvccpb.KeyValue) bool {
		return string(kv.Key) == c.key && kv.CreateRevision == c.revision
	})
	switch own {
	case -1:
		c.lose(fmt.Errorf("%s is gone", c.key))
		return "", 0, c.Err()
	case 0:
		return "", response.Header.Revision, nil
	}
	return string(candidates[own-1].Key), response.Header.Revision, nil
}

// awaitEnd returns when there may be something new about the candidate before;
// a key of "" is one that could not be read. Its error is that the wait is over.
func (c *candidacy) awaitEnd(ctx context.Context, before string, at int64) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := backoff.Around(c.ttl/6, 0.5)
	var changes <-chan clientv3.WatchResponse
	var lost <-chan struct{}
	if before != "" {
		wait = backoff.Around(verifyEvery, 0.2)
		changes = c.driver.follow(wctx, before, clientv3.WithRev(at+1))
		lost = c.driver.untilLost(wctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.driver.ctx.Done():
			return errors.New("the elector was closed")
		case <-c.lost:
			return c.Err()
		case <-timer.C:
			return nil
		case <-lost:
			// Read again once there is a connection, or soon.
			lost, changes = nil, nil
			timer.Reset(backoff.Around(c.ttl/6, 0.5))
		case response, ok := <-changes:
			if !ok || response.Err() != nil {
				changes = nil
				timer.Reset(backoff.Around(c.ttl/6, 0.5))
				continue
			}
			if slices.ContainsFunc(response.Events, func(event *clientv3.Event) bool { return event.Type == mvccpb.Event_DELETE }) {
				return nil
			}
		}
	}
}

func (c *candidacy) Fence() int64 { return c.revision }

func (c *candidacy) Lost() <-chan struct{} { return c.lost }

func (c *candidacy) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *candidacy) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.lost)
	}
}

// Resign revokes the lease, which deletes the key. Where that fails it goes on in
// the background: a key that is left would hold up the next leader, this process
// included.
func (c *candidacy) Resign(ctx context.Context) error {
	c.stop()
	<-c.done
	err := c.driver.revoke(context.WithoutCancel(ctx), c.lease)
	if err != nil {
		if c.driver.ctx.Err() == nil {
			c.driver.wg.Go(func() { c.driver.revokeEventually(c.lease) })
		}
		return fmt.Errorf("revoke the lease of %s: %w", c.key, err)
	}
	return nil
}

// revokeEventually revokes a lease as soon as etcd can be reached.
func (d *driver) revokeEventually(lease clientv3.LeaseID) {
	for {
		up := d.link.whenUp()
		if d.revoke(d.ctx, lease) == nil {
			return
		}
		timer := time.NewTimer(backoff.Around(retryRevoke, 0.5))
		select {
		case <-up:
			timer.Stop()
		case <-timer.C:
		case <-d.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// retryRevoke is the pause between two attempts to revoke a lease.
const retryRevoke = time.Second
