package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

// opTimeout bounds every single operation.
const opTimeout = registry.OperationTimeout

// Open returns a registry on the ZooKeeper that the given servers, host:port,
// belong to. It connects when the registry is first used, so an ensemble that
// is down is no error. The error names the server or the namespace that is not
// valid.
func Open(servers []string, opts ...Option) (*registry.Registry, error) {
	if len(servers) == 0 {
		return nil, errors.New("open zookeeper registry: no server is given, such as 10.0.0.1:2181")
	}
	for _, server := range servers {
		if host, _, err := net.SplitHostPort(server); err != nil || host == "" {
			return nil, fmt.Errorf("open zookeeper registry: server %q: must be host:port", server)
		}
	}
	o := newOptions(opts)
	if err := validPath(o.namespace); err != nil {
		return nil, fmt.Errorf("open zookeeper registry: namespace %q: %w", o.namespace, err)
	}
	d := &driver{
		servers:   slices.Clone(servers),
		namespace: o.namespace,
		dial:      o.dial,
		up:        make(chan struct{}),
		replaced:  make(chan struct{}),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return registry.New(d, o.registry...), nil
}

// validPath accepts what ZooKeeper accepts and a person can type.
func validPath(path string) error {
	for part := range strings.SplitSeq(path[1:], "/") {
		switch {
		case part == "":
			return errors.New("must not have empty parts")
		case part == "." || part == "..":
			return errors.New("must not have '.' or '..' as a part")
		case strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
			return errors.New("must consist of printable ASCII characters")
		}
	}
	return nil
}

// driver is a ZooKeeper as registry.Driver sees it.
type driver struct {
	// Immutable.
	servers   []string
	namespace string
	dial      DialFunc
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc

	wg sync.WaitGroup

	mu       sync.Mutex
	reader   *reader       // the one in use; nil before the first use
	replaced chan struct{} // closed and replaced with reader
	up       chan struct{} // closed and replaced each time a reader gets a session
}

func (d *driver) Kind() string { return "zookeeper" }

// Scope names the part of ZooKeeper that is used.
func (d *driver) Scope() string { return d.namespace }

// Close ends all sessions.
func (d *driver) Close() error {
	d.cancel()
	d.wg.Wait()
	return nil
}

// Reachable returns a channel that is closed when there is a connection again.
func (d *driver) Reachable() <-chan struct{} {
	d.current() // somebody has to try
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.up
}

// dir is the node whose children are the entries of a service.
func (d *driver) dir(service string) string { return d.namespace + "/services/" + service }

// current returns the reader in use, and a channel that is closed when it is
// replaced. The first call makes one.
func (d *driver) current() (*reader, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reader == nil {
		d.reader = newReader(d)
		r := d.reader
		d.wg.Go(func() { d.supervise(r) })
	}
	return d.reader, d.replaced
}

// supervise replaces the reader each time its connection is lost.
func (d *driver) supervise(r *reader) {
	for failures := 0; ; {
		select {
		case <-d.ctx.Done():
			r.close()
			return
		case <-r.lost:
		}
		d.wg.Go(r.close)
		// A server that gives a session and drops it at once must not be
		// hurried.
		if time.Since(r.made) > time.Second {
			failures = 0
		}
		pause := time.NewTimer(backoff.FullJitter(50*time.Millisecond, time.Second, failures))
		select {
		case <-pause.C:
		case <-d.ctx.Done():
			pause.Stop()
			return
		}
		failures++

		r = newReader(d)
		d.mu.Lock()
		d.reader = r
		close(d.replaced)
		d.replaced = make(chan struct{})
		d.mu.Unlock()
	}
}

// cameUp tells that a reader has got a session.
func (d *driver) cameUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.up)
	d.up = make(chan struct{})
}

// connected returns a reader that has a session. It waits for a connection
// that is being made, but not for one that could not be made.
func (d *driver) connected(ctx context.Context) (*reader, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for {
		r, replaced := d.current()
		select {
		case <-r.lost:
			select {
			case <-replaced:
				continue
			case <-ctx.Done():
				return nil, d.explain(ctx.Err())
			}
		default:
		}
		err := r.await(ctx)
		if err != nil {
			return nil, d.explain(err)
		}
		return r, nil
	}
}

// explain adds to an error of the connection which ZooKeeper it is about.
func (d *driver) explain(err error) error {
	return fmt.Errorf("connect to ZooKeeper at %s: %w", strings.Join(d.servers, ", "), err)
}
