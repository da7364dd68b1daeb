package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/config"
	"plinth.internal/internal/backoff"
)

const (
	// opTimeout bounds every operation.
	opTimeout = 3 * time.Second
	// rereadEvery is how often, give or take half of it, the documents are read
	// although the watch says that nothing has changed.
	rereadEvery = time.Minute
	// retryMin and retryMax bound the wait after something else than a lost
	// connection.
	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second
	// spread is how far apart the processes of a fleet come back whose connections
	// were lost in the same moment.
	spread = 200 * time.Millisecond
)

// Feed is the documents of one service as they are in etcd. It implements
// [config.Feed].
type Feed struct {
	// Immutable.
	client *clientv3.Client
	keys   []string // of the documents, lowest precedence first
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// Owned by the goroutine.
	cluster  uint64 // the etcd that was read last, zero before the first time
	revision int64  // and its revision then

	mu        sync.Mutex
	documents []config.Document
	err       error
	changed   chan struct{} // closed and replaced with each change
}

var _ config.Feed = (*Feed)(nil)

// Open follows the documents of a service, on a client that the caller has made
// and closes after the feed. It does not block and needs no etcd to be there.
func Open(client *clientv3.Client, service string, opts ...Option) *Feed {
	var o options
	for _, opt := range opts {
		opt.apply(&o)
	}
	namespace := cleanNamespace(o.namespace)
	ctx, cancel := context.WithCancel(context.Background())
	f := &Feed{
		client:  client,
		keys:    []string{documentKey(namespace, Default), documentKey(namespace, service)},
		cancel:  cancel,
		changed: make(chan struct{}),
		err:     fmt.Errorf("read from etcd at %s: %w", endpoints(client), config.ErrPending),
	}
	for i, key := range f.keys {
		f.documents = append(f.documents, config.Document{Name: "etcd " + key, Shared: i == 0, Err: f.err})
	}
	f.wg.Go(func() { f.run(ctx) })
	return f
}

// Close ends the feed. It does not close the client.
func (f *Feed) Close() error {
	f.cancel()
	f.wg.Wait()
	return nil
}

// Documents are the documents as they were read last.
func (f *Feed) Documents() []config.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.documents
}

// Changed returns a channel that is closed with the next change.
func (f *Feed) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// Err is why etcd cannot be followed now; nil while it can.
func (f *Feed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// run follows etcd until ctx ends.
func (f *Feed) run(ctx context.Context) {
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > retryMax {
			attempt = 0
		}
		wait := backoff.FullJitter(retryMin, retryMax, attempt)
		if errors.Is(err, ErrUnreachable) {
			wait = backoff.FullJitter(spread, spread, 0)
		}
		f.fail(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// follow reads the documents and then their changes, until the stream of changes
// can no longer be trusted.
func (f *Feed) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := f.awaitConnection(ctx); err != nil {
		return err
	}
	if err := f.read(ctx); err != nil {
		return err
	}
	// The client resumes a watch silently when the connection was lost. On an etcd
	// that was wiped or restored meanwhile it would wait for a revision that is far
	// away: so a lost connection ends the watch.
	lost, from := f.untilLost(ctx), f.revision+1
	changes, ended := make(chan struct{}, 1), make(chan error, len(f.keys))
	for _, key := range f.keys {
		f.wg.Go(func() { f.watch(ctx, key, from, changes, ended) })
	}
	reread := time.NewTimer(backoff.Around(rereadEvery, 0.5))
	defer reread.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lost:
			return unreachable(f.client)
		case err := <-ended:
			return err
		case <-changes:
		case <-reread.C:
			reread.Reset(backoff.Around(rereadEvery, 0.5))
		}
		if err := f.read(ctx); err != nil {
			return err
		}
	}
}

// watch tells of each change of a key from a revision on, and why it ended. The
// client's Watch returns only once a member has answered, which one that hangs never
// does; so it has a goroutine of its own.
func (f *Feed) watch(ctx context.Context, key string, from int64, changes chan<- struct{}, ended chan<- error) {
	err := fmt.Errorf("watch %s: etcd ended the watch", key)
	for response := range f.client.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithRev(from)) {
		if response.Err() != nil {
			err = fmt.Errorf("watch %s: %w", key, explain(f.client, response.Err()))
			break
		}
		select {
		case changes <- struct{}{}:
		default: // one is due already
		}
	}
	ended <- err // has room for one of each key
}

// read reads all documents at one revision.
func (f *Feed) read(ctx context.Context) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	ops := make([]clientv3.Op, 0, len(f.keys))
	for _, key := range f.keys {
		ops = append(ops, clientv3.OpGet(key))
	}
	response, err := f.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		if ctx.Err() != nil {
			err = unreachable(f.client)
		}
		return fmt.Errorf("read configuration: %w", explain(f.client, err))
	}
	header := response.Header
	wiped := f.cluster != 0 && (header.GetClusterId() != f.cluster || header.GetRevision() < f.revision)
	f.cluster, f.revision = header.GetClusterId(), header.GetRevision()

	f.mu.Lock()
	defer f.mu.Unlock()
	next := make([]config.Document, len(f.documents))
	for i, d := range f.documents {
		next[i] = config.Document{Name: d.Name, Shared: d.Shared}
		kvs := response.Responses[i].GetResponseRange().GetKvs()
		switch {
		case len(kvs) > 0:
			next[i].Data, next[i].Revision = kvs[0].GetValue(), kvs[0].GetModRevision()
		case wiped && d.Revision != 0:
			next[i].Err = &lostError{revision: d.Revision}
		case isLost(d.Err):
			next[i].Err = d.Err
		}
	}
	f.documents, f.err = next, nil
	f.changeLocked()
	return nil
}

// fail notes why etcd cannot be followed. What was never read cannot be told.
func (f *Feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil && f.err.Error() == err.Error() {
		return
	}
	f.err = err
	next := make([]config.Document, len(f.documents))
	for i, d := range f.documents {
		if errors.Is(d.Err, config.ErrPending) || errors.Is(d.Err, config.ErrUnreachable) {
			d.Err = fmt.Errorf("%w: %w", config.ErrUnreachable, err)
		}
		next[i] = d
	}
	f.documents = next
	f.changeLocked()
}

func (f *Feed) changeLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// lostError is the error of a document that an etcd does not have which has lost
// its data.
type lostError struct{ revision int64 }

func (e *lostError) Error() string {
	return fmt.Sprintf("etcd has lost its data, revision %d of the document among it; write it again, with scaffold config set, or empty if it is not wanted any more", e.revision)
}

func isLost(err error) bool {
	_, ok := errors.AsType[*lostError](err)
	return ok
}

func endpoints(client *clientv3.Client) string { return strings.Join(client.Endpoints(), ", ") }

func unreachable(client *clientv3.Client) error {
	return fmt.Errorf("etcd at %s: %w", endpoints(client), ErrUnreachable)
}
