package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

const (
	// verifyEvery is how often, give or take a fifth, the own key is read.
	verifyEvery = 10 * time.Second
	// hurry is the longest wait before a renewal is tried again, and before
	// lease and key are checked once a connection is back.
	hurry = 500 * time.Millisecond
)

// errGone marks the errors that mean that the entry is lost.
var errGone = errors.New("entry is lost")

// registration is one key under its own lease. Its goroutine, keep, renews the
// lease and watches the key.
type registration struct {
	registry.Doubts // that of the last renewal

	// Immutable.
	driver *driver
	key    string
	ttl    time.Duration
	lease  clientv3.LeaseID
	stop   context.CancelFunc // ends keep
	done   chan struct{}      // closed when keep has ended
	lost   chan struct{}      // closed with err

	mu       sync.Mutex
	revision int64    // of our latest write that is known to have arrived
	values   [][]byte // what we wrote at revision, and later without knowing whether it arrived
	err      error    // why the entry is lost
}

// Register grants a lease, puts the key under it, whatever is there, and
// begins to keep it alive.
func (d *driver) Register(ctx context.Context, inst registry.Instance, ttl time.Duration) (registry.Registration, error) {
	value, err := registry.Encode(inst)
	if err != nil {
		return nil, err
	}
	ctx, cancel := d.op(ctx, opTimeout)
	defer cancel()
	// The lease lives from when etcd grants it, which is not before now.
	granted := time.Now()
	lease, err := d.client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return nil, fmt.Errorf("grant lease: %w", d.explain(ctx, err))
	}
	key := instanceKey(d.namespace, inst.Service, inst.ID)
	put, err := d.client.Put(ctx, key, string(value), clientv3.WithLease(lease.ID))
	if err != nil {
		err = fmt.Errorf("put %s: %w", key, d.explain(ctx, err))
		_ = d.revoke(context.WithoutCancel(ctx), lease.ID) // else it expires
		return nil, err
	}
	kctx, stop := context.WithCancel(d.ctx)
	r := &registration{
		driver:   d,
		key:      key,
		ttl:      ttl,
		lease:    lease.ID,
		stop:     stop,
		done:     make(chan struct{}),
		lost:     make(chan struct{}),
		revision: put.Header.Revision,
		values:   [][]byte{value},
	}
	d.wg.Go(func() { r.keep(kctx, granted.Add(ttl)) })
	return r, nil
}

func (d *driver) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := d.op(ctx, opTimeout)
	defer cancel()
	_, err := d.client.Revoke(ctx, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return d.explain(ctx, err)
}

// Update writes the key if it is still under our lease.
func (r *registration) Update(ctx context.Context, inst registry.Instance) error {
	value, err := registry.Encode(inst)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.values = append(r.values, value)
	r.mu.Unlock()

	ctx, cancel := r.driver.op(ctx, opTimeout)
	defer cancel()
	response, err := r.driver.client.Txn(ctx).
		If(r.ours()).
		Then(clientv3.OpPut(r.key, string(value), clientv3.WithLease(r.lease))).
		Commit()
	if err == nil && !response.Succeeded {
		err = fmt.Errorf("%w: %s was deleted or changed by somebody else", errGone, r.key)
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	switch {
	case errors.Is(err, errGone):
		r.lose(err)
		return err
	case err != nil:
		return fmt.Errorf("put %s: %w", r.key, r.driver.explain(ctx, err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision = max(r.revision, response.Header.Revision)
	r.values = [][]byte{value}
	return nil
}

// ours is true of a key that is under our lease.
func (r *registration) ours() clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(r.key), "=", r.lease)
}

func (r *registration) Lost() <-chan struct{} { return r.lost }

func (r *registration) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *registration) lose(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.lost)
	}
}

// Withdraw deletes the key if it is ours, and then revokes the lease.
func (r *registration) Withdraw(ctx context.Context) error {
	r.stop()
	<-r.done
	return errors.Join(r.remove(ctx), r.driver.revoke(ctx, r.lease))
}

func (r *registration) remove(ctx context.Context) error {
	ctx, cancel := r.driver.op(ctx, opTimeout)
	defer cancel()
	if _, err := r.driver.client.Txn(ctx).If(r.ours()).Then(clientv3.OpDelete(r.key)).Commit(); err != nil {
		return fmt.Errorf("delete %s: %w", r.key, r.driver.explain(ctx, err))
	}
	return nil
}

// keep renews the lease and checks the key, until ctx ends or the entry is
// lost. A timer that fires late, because the process was stopped for a while,
// renews at once, and so finds out whether the lease has survived the pause.
func (r *registration) keep(ctx context.Context, expires time.Time) {
	defer close(r.done)
	defer r.stop()
	r.mu.Lock()
	changes := r.driver.follow(ctx, r.key, clientv3.WithRev(r.revision+1))
	r.mu.Unlock()
	// Spread, because those that were put back together would renew together.
	renew := time.NewTimer(backoff.Around(r.ttl/3, 0.1))
	defer renew.Stop()
	verify := time.NewTimer(backoff.Around(verifyEvery, 0.2))
	defer verify.Stop()
	up, broken := r.driver.link.whenUp(), r.driver.link.whenBroken()
	var err error
	for !errors.Is(err, errGone) {
		err = nil
		select {
		case <-ctx.Done():
			return
		case <-r.lost: // found out by Update
			err = r.Err()
		case <-up:
			// It may be another etcd, or one without our lease.
			up, broken = r.driver.link.whenUp(), r.driver.link.whenBroken()
			renew.Reset(backoff.FullJitter(hurry, hurry, 0))
			verify.Reset(hurry)
		case <-broken:
			// Not worth a word if it comes back at once; else the renewal says so.
			broken = nil
			renew.Reset(hurry)
		case <-renew.C:
			if expires, err = r.renew(ctx, expires); ctx.Err() != nil {
				return
			}
			if r.SetDoubt(err); err != nil {
				renew.Reset(backoff.Around(hurry/2, 0.5))
			} else {
				renew.Reset(backoff.Around(r.ttl/3, 0.1))
			}
		case <-verify.C:
			var revision int64
			if revision, err = r.verify(ctx); err == nil && changes == nil {
				changes = r.driver.follow(ctx, r.key, clientv3.WithRev(revision+1))
			}
			verify.Reset(backoff.Around(verifyEvery, 0.2))
		case response, ok := <-changes:
			if !ok || response.Err() != nil {
				// The key may have changed unseen: look, and watch from there.
				changes = nil
				verify.Reset(backoff.FullJitter(hurry, hurry, 0))
				continue
			}
			for _, event := range response.Events {
				if err = r.judge(event.Kv, event.Type == mvccpb.Event_DELETE, event.Kv.ModRevision); err != nil {
					break
				}
			}
		}
	}
	r.lose(err)
	// A key that was deleted leaves its lease behind. If the lease has expired
	// or etcd cannot be reached, there is nothing to do.
	if time.Now().Before(expires) {
		_ = r.driver.revoke(ctx, r.lease)
	}
}

// renew renews the lease once and returns when it expires.
func (r *registration) renew(ctx context.Context, expires time.Time) (time.Time, error) {
	// Leave time to say that the entry is lost when it is.
	octx, cancel := r.driver.op(ctx, min(opTimeout, max(time.Until(expires), hurry)))
	defer cancel()
	// The lease is extended from when etcd gets this, which is not before now.
	began := time.Now()
	_, err := r.driver.client.KeepAliveOnce(octx, r.lease)
	switch {
	case err == nil:
		return began.Add(r.ttl), nil
	case ctx.Err() != nil:
		return expires, ctx.Err()
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return expires, fmt.Errorf("%w: the lease has expired", errGone)
	}
	err = r.driver.explain(octx, err)
	if !time.Now().Before(expires) {
		return expires, fmt.Errorf("%w: the lease was not renewed for %v: %w", errGone, r.ttl, err)
	}
	return expires, fmt.Errorf("renew lease: %w", err)
}

// verify reads the key and returns the revision at which it was ours.
func (r *registration) verify(ctx context.Context) (int64, error) {
	r.mu.Lock()
	known := r.revision
	r.mu.Unlock()
	ctx, cancel := r.driver.op(ctx, opTimeout)
	defer cancel()
	response, err := r.driver.client.Get(ctx, r.key)
	if err != nil {
		return 0, err // not known is not lost
	}
	at := response.Header.Revision
	if at < known {
		return at, fmt.Errorf("%w: etcd went back in time: revision %d, was %d", errGone, at, known)
	}
	if len(response.Kvs) == 0 {
		return at, r.judge(nil, true, at)
	}
	return at, r.judge(response.Kvs[0], false, at)
}

// judge returns an error if the key, as it was at the given revision, is not
// ours.
func (r *registration) judge(kv *mvccpb.KeyValue, deleted bool, at int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case at < r.revision:
		// Older than our own latest write.
	case deleted:
		return fmt.Errorf("%w: %s was deleted by somebody else", errGone, r.key)
	case kv.ModRevision == r.revision:
	case clientv3.LeaseID(kv.Lease) == r.lease && containsValue(r.values, kv.Value):
		// An update whose answer is still on its way, or never came.
		r.revision = kv.ModRevision
	default:
		return fmt.Errorf("%w: %s was changed by somebody else", errGone, r.key)
	}
	return nil
}

func containsValue(values [][]byte, value []byte) bool {
	for _, v := range values {
		if bytes.Equal(v, value) {
			return true
		}
	}
	return false
}
