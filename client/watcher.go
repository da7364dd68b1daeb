package client

import (
	"context"
	"sync"
	"time"

	"plinth.internal/registry"
)

// watcher keeps one user of a service's list up to date: a gRPC connection, or
// all of HTTP or net/rpc.
type watcher struct {
	service   *service
	directory *directory

	mu      sync.Mutex
	apply   func(*view)
	current *view             // the last good one
	applied registry.Snapshot // what it was made of
}

// take makes a view of a list and has it applied.
func (w *watcher) take(snapshot registry.Snapshot) {
	w.mu.Lock()
	first := w.current == nil
	w.current, w.applied = w.directory.view(snapshot, w.current), snapshot
	w.apply(w.current)
	told := w.changedLocked(first)
	w.mu.Unlock()
	w.service.client.options.events(told)
}

// again makes another view of the same list, because settings have changed.
func (w *watcher) again(context.Context) {
	w.mu.Lock()
	if w.current == nil {
		w.mu.Unlock()
		return // the first view will be by the new settings
	}
	w.current = w.directory.view(w.applied, w.current)
	w.apply(w.current)
	told := w.changedLocked(false)
	w.mu.Unlock()
	w.service.client.options.events(told)
}

func (w *watcher) changedLocked(first bool) ViewChanged {
	return ViewChanged{
		Service: w.service.name, Protocol: w.directory.protocol, First: first, Source: w.applied.Source, At: w.applied.At,
		Instances: len(w.current.nodes), Listed: w.current.listed, Quarantined: len(w.applied.Quarantined),
	}
}

// unknown has it applied that the registry has never given a list.
func (w *watcher) unknown(since time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apply(w.directory.unknown(since, err))
}
