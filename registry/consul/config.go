package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"plinth.internal/config"
	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

const (
	// DefaultNamespace is the beginning of the keys in Consul's store.
	DefaultNamespace = "/plinth"

	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second
)

// ConfigFeed is a service's central configuration in Consul's key-value store. It
// implements [config.Feed]: framework.WithConfigFeed takes one.
type ConfigFeed struct {
	client *api.Client // immutable
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	documents []config.Document
	errs      []error       // by document: why it cannot be followed now
	changed   chan struct{} // closed and replaced with each change
}

var _ config.Feed = (*ConfigFeed)(nil)

// OpenConfig follows the documents of a service: the keys
// <namespace>/config/default, which all services read, and above it
// <namespace>/config/<service>. They are YAML, as in etcd. An empty namespace is
// [DefaultNamespace]; Consul's keys have no slash at the front, so it is
// plinth/config/default there. It does not block and needs no agent to be there.
// The client stays the caller's, who closes the feed.
//
// Each document has its own blocking query, so a change is seen at once. A document
// that is missing when Consul's index has gone back is an error, and what was good
// last stays in use: that is a store that was put back, not an operator who changed
// his mind.
func OpenConfig(client *api.Client, service, namespace string) *ConfigFeed {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &ConfigFeed{client: client, cancel: cancel, changed: make(chan struct{})}
	pending := fmt.Errorf("read from consul: %w", config.ErrPending)
	for i, name := range []string{"default", service} {
		key := strings.Trim(namespace, "/") + "/config/" + name
		c.documents = append(c.documents, config.Document{Name: "consul " + key, Shared: i == 0, Err: pending})
		c.errs = append(c.errs, pending)
		c.wg.Go(func() { c.follow(ctx, i, key) })
	}
	return c
}

// Close ends the feed.
func (c *ConfigFeed) Close() error {
	c.cancel()
	c.wg.Wait()
	return nil
}

// Documents are the documents as they were read last.
func (c *ConfigFeed) Documents() []config.Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.documents
}

// Changed returns a channel that is closed with the next change.
func (c *ConfigFeed) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Err is why Consul cannot be followed now; nil while it can.
func (c *ConfigFeed) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.errs...)
}

// follow reads one document with blocking queries until ctx ends.
func (c *ConfigFeed) follow(ctx context.Context, i int, key string) {
	var index, last uint64 // to wait for; of the last answer
	for failures := 0; ; {
		began := time.Now()
		pair, got, err := c.query(ctx, key, index)
		if ctx.Err() != nil {
			return
		}
		wait := queryPace - time.Since(began)
		if err != nil {
			wait = backoff.FullJitter(retryMin, retryMax, failures)
			failures++
			index = 0 // whatever it is when the agent is back
			c.set(i, func(d config.Document) config.Document {
				if errors.Is(d.Err, config.ErrPending) || errors.Is(d.Err, config.ErrUnreachable) {
					d.Err = fmt.Errorf("%w: %w", config.ErrUnreachable, err)
				}
				return d
			}, err)
		} else {
			failures = 0
			c.set(i, func(d config.Document) config.Document { return next(d, pair, got < last) }, nil)
			index, last = nextIndex(index, got), got
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// next is a document after an answer.
func next(d config.Document, pair *api.KVPair, wentBack bool) config.Document {
	switch {
	case pair != nil:
		return config.Document{Name: d.Name, Shared: d.Shared, Data: pair.Value, Revision: int64(pair.ModifyIndex)}
	case wentBack && d.Revision != 0:
		return config.Document{Name: d.Name, Shared: d.Shared, Err: &lostError{revision: d.Revision}}
	}
	if _, lost := errors.AsType[*lostError](d.Err); lost {
		return d
	}
	return config.Document{Name: d.Name, Shared: d.Shared}
}

// lostError is the error of a document that a Consul does not have which has lost
// its data.
type lostError struct{ revision int64 }

func (e *lostError) Error() string {
	return fmt.Sprintf("consul has lost its data, revision %d of the document among it; write it again, or empty if it is not wanted any more", e.revision)
}

// query asks for a key: at once with index 0, else when it is newer than that or
// queryWait is over. The pair is nil where there is no such key.
func (c *ConfigFeed) query(ctx context.Context, key string, index uint64) (*api.KVPair, uint64, error) {
	timeout := registry.OperationTimeout
	if index > 0 {
		timeout += queryWait + queryWait/16 // see driver.query
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: queryWait}).WithContext(ctx)
	pair, meta, err := c.client.KV().Get(key, options)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s from consul: %w", key, err)
	}
	return pair, meta.LastIndex, nil
}

// set changes what is known of a document, and tells of it if it is something else.
func (c *ConfigFeed) set(i int, change func(config.Document) config.Document, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.documents[i]
	after := change(before)
	same := before.Revision == after.Revision && string(before.Data) == string(after.Data) && text(before.Err) == text(after.Err)
	if same && text(c.errs[i]) == text(err) {
		return
	}
	documents := append([]config.Document{}, c.documents...)
	documents[i] = after
	c.documents = documents
	c.errs[i] = err
	close(c.changed)
	c.changed = make(chan struct{})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
