package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// listView is the list of instances for a protocol over which the client picks
// for itself, HTTP and net/rpc, watched from the first call on.
type listView struct {
	start   sync.Once
	known   chan struct{} // closed at the first view, good or not
	current atomic.Pointer[view]
}

// apply takes a view into use, never two at a time, and lets go of the connections
// to those that are not in it.
func (l *listView) apply(v *view) {
	old := l.current.Swap(v)
	if old == nil {
		close(l.known)
	}
	old.release(v)
}

// following returns the current list, waiting for the first one. The first call
// starts the watch, which hands each view to apply.
func (s *service) following(ctx context.Context, l *listView, d *directory, apply func(*view)) (*view, error) {
	if s.client.ctx.Err() != nil {
		return nil, s.closed()
	}
	v := l.current.Load()
	if v == nil {
		l.start.Do(func() {
			if !s.client.watch(func(ctx context.Context) { s.watch(ctx, d, apply) }) {
				apply(&view{service: s, err: s.closed()})
			}
		})
		select {
		case <-l.known:
			v = l.current.Load()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the first list of the instances of %q: %w", s.name, ended(ctx))
		case <-s.client.ctx.Done():
			return nil, s.closed()
		}
	}
	if len(v.nodes) == 0 {
		return nil, status.Error(codes.Unavailable, v.err.Error())
	}
	return v, nil
}
