package zookeeper

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"plinth.internal/internal/backoff"
	"plinth.internal/registry"
)

const (
	// relistEvery is how often, give or take half of it, the names are read
	// again although nobody says that they have changed.
	relistEvery = time.Minute
	// parallelReads is how many nodes are read at a time.
	parallelReads = 16
	// maxRefreshes bounds how often a list is read again before it is told.
	maxRefreshes = 5
)

// Watch lists the service and follows its changes until the connection is lost.
func (d *driver) Watch(ctx context.Context, service string, emit func(registry.List)) error {
	r, err := d.connected(ctx)
	if err != nil {
		return err
	}
	v := &serviceView{service: service, dir: d.dir(service), reader: r, entries: make(map[string]entry)}
	sub := r.subscribe(v.dir)
	defer r.unsubscribe(sub)

	err = r.sync(ctx, v.dir)
	if err == nil {
		err = v.refresh(ctx, true, nil)
	}
	relist := time.NewTimer(backoff.Around(relistEvery, 0.5))
	defer relist.Stop()
	for err == nil {
		emit(v.snapshot())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.lost:
			err = errLost
		case <-sub.signal:
			self, names := r.take(sub)
			err = v.refresh(ctx, self, names)
		case <-relist.C:
			err = v.refresh(ctx, true, nil)
			relist.Reset(backoff.Around(relistEvery, 0.5))
		}
	}
	return fmt.Errorf("read %s from ZooKeeper at %s: %w", v.dir, strings.Join(d.servers, ", "), err)
}

// serviceView is one service as it was read last.
type serviceView struct {
	service string
	dir     string
	reader  *reader

	revision  int64
	withdrawn []string
	entries   map[string]entry // by name
}

// entry is one node, understood or not.
type entry struct {
	instance registry.Instance
	err      error
}

// refresh reads what has changed: the names, if the directory itself has, the
// nodes that have, and those that are new.
func (v *serviceView) refresh(ctx context.Context, self bool, changed map[string]struct{}) error {
	// A node that turns out to be gone may have left a mark: then the names
	// must be read once more before anybody is told. That ends when nobody
	// withdraws between two requests.
	for range maxRefreshes {
		if self {
			var err error
			if changed, err = v.list(ctx, changed); err != nil {
				return err
			}
		}
		gone, err := v.read(ctx, changed)
		if err != nil {
			return err
		}
		if !gone {
			break
		}
		self, changed = true, nil
	}
	return nil
}

// list reads the names, and returns those whose nodes are to be read.
func (v *serviceView) list(ctx context.Context, changed map[string]struct{}) (map[string]struct{}, error) {
	names, revision, err := v.reader.list(ctx, v.dir)
	if err != nil {
		return nil, err
	}
	v.revision = max(v.revision, revision)
	v.withdrawn = nil
	entries := make(map[string]entry, len(names))
	wanted := make(map[string]struct{})
	for _, name := range names {
		if m, ok := parseMark(name); ok {
			v.withdrawn = append(v.withdrawn, m.id)
			continue
		}
		e, known := v.entries[name]
		if known {
			entries[name] = e
		}
		if _, dirty := changed[name]; dirty || !known {
			wanted[name] = struct{}{}
		}
	}
	v.entries = entries
	return wanted, nil
}

// read reads nodes, and reports whether one was not there.
func (v *serviceView) read(ctx context.Context, names map[string]struct{}) (gone bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		todo  = make(chan string)
		nodes = make(map[string]*node, len(names))
	)
	for range min(parallelReads, len(names)) {
		wg.Go(func() {
			for name := range todo {
				n, err := v.reader.get(ctx, v.dir+"/"+name)
				if err != nil {
					cancel(err)
					continue
				}
				mu.Lock()
				nodes[name] = n
				mu.Unlock()
			}
		})
	}
	for name := range names {
		if _, mark := parseMark(name); !mark && ctx.Err() == nil {
			todo <- name
		}
	}
	close(todo)
	wg.Wait()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	for name, n := range nodes {
		if n == nil {
			delete(v.entries, name)
			gone = true
			continue
		}
		v.revision = max(v.revision, n.stat.Mzxid)
		var e entry
		e.instance, e.err = registry.Decode(v.service, name, n.value)
		v.entries[name] = e
	}
	return gone, nil
}

func (v *serviceView) snapshot() registry.List {
	list := registry.List{
		Revision:  v.revision,
		Instances: make([]registry.Instance, 0, len(v.entries)),
		Withdrawn: v.withdrawn,
	}
	for name, e := range v.entries {
		if e.err != nil {
			list.Skipped = append(list.Skipped, registry.Skipped{Key: v.dir + "/" + name, Err: e.err})
		} else {
			list.Instances = append(list.Instances, e.instance)
		}
	}
	return list
}
