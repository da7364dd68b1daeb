package zookeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/go-zookeeper/zk"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

// hurry is the longest wait before the own node is read again when that failed.
const hurry = 500 * time.Millisecond

// errGone marks the errors that mean that the entry is lost.
var errGone = errors.New("entry is lost")

// acl lets everybody do everything: access is a matter of the network here.
var acl = zk.WorldACL(zk.PermAll)

// registration is one ephemeral node in a session of its own. Its goroutine,
// keep, reads the node.
type registration struct {
	registry.Doubts // that of the last look at the node

	// Immutable.
	driver *driver
	conn   *conn
	path   string
	ttl    time.Duration
	stop   context.CancelFunc // ends keep
	done   chan struct{}      // closed when keep has ended
	lost   chan struct{}      // closed with err

	busy   chan struct{} // capacity 1: held while the node is read or written
	values [][]byte      // what was written last, and later without knowing whether it arrived; with busy
	err    error         // why the entry is lost; read after lost
}

// Register opens a session and creates the node in it, in place of one that is
// there.
func (d *driver) Register(ctx context.Context, inst registry.Instance, ttl time.Duration) (registry.Registration, error) {
	value, err := registry.Encode(inst)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	// Ask the connection that is always there, so that no new one is made
	// while there is no hope.
	if _, err := d.connected(ctx); err != nil {
		return nil, err
	}
	c := &conn{resume: true}
	d.connect(c, ttl)
	kctx, stop := context.WithCancel(d.ctx)
	r := &registration{
		driver: d,
		conn:   c,
		path:   d.dir(inst.Service) + "/" + inst.ID,
		ttl:    ttl,
		stop:   stop,
		done:   make(chan struct{}),
		lost:   make(chan struct{}),
		busy:   make(chan struct{}, 1),
		values: [][]byte{value},
	}
	began := time.Now()
	if err := r.enter(ctx, value); err != nil {
		stop()
		d.wg.Go(c.close) // and with it goes what may have been created
		return nil, err
	}
	d.wg.Go(func() { r.keep(kctx, began.Add(ttl)) })
	return r, nil
}

// enter waits for the session and puts the node there.
func (r *registration) enter(ctx context.Context, value []byte) error {
	if err := r.conn.await(ctx); err != nil {
		return r.driver.explain(err)
	}
	if err := r.create(ctx, value); err != nil {
		return fmt.Errorf("create %s: %w", r.path, err)
	}
	return r.tidy(ctx)
}

// create creates the node, and what is above it.
func (r *registration) create(ctx context.Context, value []byte) error {
	var err error
	for range 5 { // somebody else may do the same in the same moment
		_, err = do(ctx, r.conn, func(c *zk.Conn) (string, error) { return c.Create(r.path, value, zk.FlagEphemeral, acl) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, zk.ErrNoNode):
			err = r.makeDir(ctx, path.Dir(r.path))
		case errors.Is(err, zk.ErrNodeExists):
			// In one transaction, so that nobody sees a hole.
			err = r.replace(ctx, value)
			if err == nil {
				return nil
			}
			if errors.Is(err, zk.ErrNoNode) || errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNodeExists) {
				continue
			}
		}
		if err != nil {
			return err
		}
	}
	return err
}

// replace deletes the node, whose session may be an older one of this process,
// and creates it anew.
func (r *registration) replace(ctx context.Context, value []byte) error {
	stat, err := do(ctx, r.conn, func(c *zk.Conn) (*zk.Stat, error) {
		exists, stat, err := c.Exists(r.path)
		if err == nil && !exists {
			err = zk.ErrNoNode
		}
		return stat, err
	})
	if err != nil {
		return err
	}
	_, err = do(ctx, r.conn, func(c *zk.Conn) ([]zk.MultiResponse, error) {
		return c.Multi(
			&zk.DeleteRequest{Path: r.path, Version: stat.Version},
			&zk.CreateRequest{Path: r.path, Data: value, Acl: acl, Flags: zk.FlagEphemeral})
	})
	return err
}

// makeDir creates a persistent node and what is above it.
func (r *registration) makeDir(ctx context.Context, dir string) error {
	mkdir := func() error {
		_, err := do(ctx, r.conn, func(c *zk.Conn) (string, error) { return c.Create(dir, nil, zk.FlagPersistent, acl) })
		if errors.Is(err, zk.ErrNodeExists) {
			return nil
		}
		return err
	}
	err := mkdir()
	if errors.Is(err, zk.ErrNoNode) && path.Dir(dir) != "/" {
		if err := r.makeDir(ctx, path.Dir(dir)); err != nil {
			return err
		}
		err = mkdir()
	}
	return err
}

// tidy deletes the marks of earlier withdrawals of this instance, and those
// that nobody needs any more.
func (r *registration) tidy(ctx context.Context) error {
	dir, id := path.Split(r.path)
	dir = path.Clean(dir)
	names, err := do(ctx, r.conn, func(c *zk.Conn) ([]string, error) {
		names, _, err := c.Children(dir)
		return names, err
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, name := range names {
		m, ok := parseMark(name)
		if !ok || m.id != id && !m.outlived(time.Now()) {
			continue
		}
		_, err := do(ctx, r.conn, func(c *zk.Conn) (struct{}, error) { return struct{}{}, c.Delete(dir+"/"+name, -1) })
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("delete mark %s/%s: %w", dir, name, err)
		}
	}
	return nil
}

// keep reads the node until the entry is lost or the context ends.
func (r *registration) keep(ctx context.Context, expires time.Time) {
	defer close(r.done)
	every := r.ttl / 3
	timer := time.NewTimer(backoff.Around(every, 0.2))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.conn.over:
			r.lose(fmt.Errorf("%w: %w", errGone, r.conn.cause()))
			return
		case <-timer.C:
		}
		began := time.Now()
		// The last attempt may be late because this process was stopped: then
		// it must not hang on a connection that died meanwhile.
		vctx, cancel := context.WithTimeout(ctx, max(time.Until(expires), hurry))
		err := r.verify(vctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			expires = began.Add(r.ttl)
			r.SetDoubt(nil)
			timer.Reset(backoff.Around(every, 0.2))
		case errors.Is(err, errGone):
			r.lose(err)
			return
		case !time.Now().Before(expires):
			r.lose(fmt.Errorf("%w: not confirmed for %v: %w", errGone, r.ttl, err))
			return
		default:
			r.SetDoubt(err)
			timer.Reset(min(hurry, time.Until(expires)))
		}
	}
}

// lose ends the session, so that nothing is left of the entry.
func (r *registration) lose(err error) {
	r.err = err
	close(r.lost)
	r.driver.wg.Go(r.conn.close)
}

func (r *registration) Lost() <-chan struct{} { return r.lost }

func (r *registration) Err() error {
	if !closed(r.lost) {
		return nil
	}
	return r.err
}

func (r *registration) verify(ctx context.Context) error {
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	_, err := r.read(ctx)
	return err
}

func (r *registration) lock(ctx context.Context) error {
	select {
	case r.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *registration) unlock() { <-r.busy }

// read returns the version of the node, and an error if it is not ours.
func (r *registration) read(ctx context.Context) (version int32, err error) {
	n, err := do(ctx, r.conn, func(c *zk.Conn) (n node, err error) {
		n.value, n.stat, err = c.Get(r.path)
		return n, err
	})
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return 0, fmt.Errorf("%w: %s was deleted by somebody else", errGone, r.path)
	case err != nil:
		return 0, err
	case n.stat.EphemeralOwner != r.conn.zk.SessionID():
		return 0, fmt.Errorf("%w: %s belongs to another session", errGone, r.path)
	}
	for i, value := range r.values {
		if bytes.Equal(value, n.value) {
			if i == len(r.values)-1 {
				r.values = r.values[i:] // none can be on its way any more but this
			}
			return n.stat.Version, nil
		}
	}
	return 0, fmt.Errorf("%w: %s was changed by somebody else", errGone, r.path)
}

// Update writes the node if it is still ours.
func (r *registration) Update(ctx context.Context, inst registry.Instance) error {
	value, err := registry.Encode(inst)
	if err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	version, err := r.read(ctx)
	if err != nil {
		return err
	}
	r.values = append(r.values, value)
	_, err = do(ctx, r.conn, func(c *zk.Conn) (*zk.Stat, error) { return c.Set(r.path, value, version) })
	if err != nil {
		return fmt.Errorf("write %s: %w", r.path, err)
	}
	r.values = [][]byte{value}
	return nil
}

// Withdraw deletes the node, leaving a mark, and ends the session.
func (r *registration) Withdraw(ctx context.Context) error {
	r.stop()
	<-r.done
	if closed(r.lost) {
		return nil // and the session has been ended
	}
	defer r.driver.wg.Go(r.conn.close)
	if err := r.lock(ctx); err != nil {
		return err
	}
	defer r.unlock()
	version, err := r.read(ctx)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s, which expires by itself: %w", r.path, err)
	}
	m := mark{time.Now(), path.Base(r.path)}
	_, err = do(ctx, r.conn, func(c *zk.Conn) ([]zk.MultiResponse, error) {
		return c.Multi(
			&zk.DeleteRequest{Path: r.path, Version: version},
			&zk.CreateRequest{Path: path.Dir(r.path) + "/" + m.String(), Acl: acl, Flags: zk.FlagPersistent})
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", r.path, err)
	}
	return nil
}
