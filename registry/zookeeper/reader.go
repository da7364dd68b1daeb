package zookeeper

import (
	"context"
	"errors"
	"path"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// readerTimeout is the session timeout of readers, who have nothing that could
// expire: a connection that is silent for two thirds of it is lost.
const readerTimeout = 6 * time.Second

// kind is what a ZooKeeper watch watches.
type kind string

const (
	data     kind = "data"
	children kind = "children"
	creation kind = "creation"
)

type watchKey struct {
	path string
	kind kind
}

// reader is a connection for all watches of a registry. It is replaced when it
// is lost, so that no watch has to be carried over.
type reader struct {
	*conn

	mu sync.Mutex
	// armed are the watches that ZooKeeper holds for us: true once it is known
	// to, false while it is being asked. A watch ends with its first event, and
	// cannot be taken back: so one that nobody needs any more is found here by
	// the next who does.
	armed map[watchKey]bool
	subs  map[string]map[*subscription]struct{} // by directory
}

// subscription collects what has changed in a directory.
type subscription struct {
	dir    string
	signal chan struct{} // capacity 1: there is something to take

	// Guarded by reader.mu.
	self  bool                // the directory itself
	names map[string]struct{} // its children
}

func newReader(d *driver) *reader {
	r := &reader{
		armed: make(map[watchKey]bool),
		subs:  make(map[string]map[*subscription]struct{}),
	}
	r.conn = &conn{onReady: d.cameUp, onNode: r.dispatch}
	d.connect(r.conn, readerTimeout)
	return r
}

// dispatch takes an event of a watch.
func (r *reader) dispatch(event zk.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch event.Type {
	case zk.EventNodeCreated:
		delete(r.armed, watchKey{event.Path, creation})
	case zk.EventNodeDataChanged:
		delete(r.armed, watchKey{event.Path, data})
	case zk.EventNodeChildrenChanged:
		delete(r.armed, watchKey{event.Path, children})
	case zk.EventNodeDeleted:
		for _, k := range []kind{data, children, creation} {
			delete(r.armed, watchKey{event.Path, k})
		}
	default:
		return // the connection is lost, which everybody sees
	}
	for sub := range r.subs[event.Path] {
		sub.self = true
		sub.wake()
	}
	for sub := range r.subs[path.Dir(event.Path)] {
		sub.names[path.Base(event.Path)] = struct{}{}
		sub.wake()
	}
}

func (s *subscription) wake() {
	select {
	case s.signal <- struct{}{}:
	default: // it will look anyway
	}
}

func (r *reader) subscribe(dir string) *subscription {
	sub := &subscription{dir: dir, signal: make(chan struct{}, 1), names: make(map[string]struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subs[dir] == nil {
		r.subs[dir] = make(map[*subscription]struct{})
	}
	r.subs[dir][sub] = struct{}{}
	return sub
}

func (r *reader) unsubscribe(sub *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.subs[sub.dir], sub)
	if len(r.subs[sub.dir]) == 0 {
		delete(r.subs, sub.dir)
	}
}

// take returns what has changed since the last call.
func (r *reader) take(sub *subscription) (self bool, names map[string]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	self, names = sub.self, sub.names
	sub.self, sub.names = false, make(map[string]struct{})
	return self, names
}

// arm reports whether a watch has to be asked for.
func (r *reader) arm(key watchKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.armed[key] {
		return false
	}
	r.armed[key] = false
	return true
}

// asked notes how asking for a watch went. If the key is gone, the watch has
// already told what it had to.
func (r *reader) asked(key watchKey, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, waiting := r.armed[key]; !ok {
		delete(r.armed, key)
	} else if waiting {
		r.armed[key] = true
	}
}

// sync makes the following reads see what was written before by others.
func (r *reader) sync(ctx context.Context, dir string) error {
	_, err := do(ctx, r.conn, func(c *zk.Conn) (string, error) { return c.Sync(dir) })
	return err
}

// list returns the children of the directory, none if there is no such node,
// and sees to it that changes are told.
func (r *reader) list(ctx context.Context, dir string) (names []string, revision int64, err error) {
	type listing struct {
		names []string
		stat  *zk.Stat
	}
	for range 3 {
		key := watchKey{dir, children}
		arm := r.arm(key)
		l, err := do(ctx, r.conn, func(c *zk.Conn) (l listing, err error) {
			if arm {
				l.names, l.stat, _, err = c.ChildrenW(dir)
			} else {
				l.names, l.stat, err = c.Children(dir)
			}
			return l, err
		})
		if arm {
			r.asked(key, err == nil)
		}
		if err == nil {
			return l.names, l.stat.Pzxid, nil
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return nil, 0, err
		}
		key = watchKey{dir, creation}
		if !r.arm(key) {
			return nil, 0, nil
		}
		exists, err := do(ctx, r.conn, func(c *zk.Conn) (bool, error) {
			exists, _, _, err := c.ExistsW(dir)
			return exists, err
		})
		r.asked(key, err == nil && !exists)
		if err != nil || !exists {
			return nil, 0, err
		}
		// It was created between the two questions.
	}
	return nil, 0, errors.New("the node comes and goes")
}

// node is what is stored in one node.
type node struct {
	value []byte
	stat  *zk.Stat
}

// get returns the content of a node, nil if there is none, and sees to it that
// changes are told.
func (r *reader) get(ctx context.Context, path string) (*node, error) {
	key := watchKey{path, data}
	arm := r.arm(key)
	n, err := do(ctx, r.conn, func(c *zk.Conn) (n node, err error) {
		if arm {
			n.value, n.stat, _, err = c.GetW(path)
		} else {
			n.value, n.stat, err = c.Get(path)
		}
		return n, err
	})
	if arm {
		r.asked(key, err == nil)
	}
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &n, nil
}
