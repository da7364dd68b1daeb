package memory

import (
	"context"
	"errors"
	"slices"
	"sync"

	"plinth.internal/registry"
)

// Elector holds elections among those who share it, in this process. Make one
// with [NewElector]. It has no lease: a leadership is lost by [Elector.Depose]
// only.
type Elector struct {
	mu     sync.Mutex
	queues map[string][]*seat // by name; the first one of each leads
	fence  int64
}

// NewElector returns an elector without candidates.
func NewElector() *Elector { return &Elector{queues: map[string][]*seat{}} }

var _ registry.Elector = (*Elector)(nil)

// seat is the place of one candidate. It is its leadership once turn is closed.
type seat struct {
	// Immutable.
	elector   *Elector
	name      string
	candidate string
	turn      chan struct{}
	lost      chan struct{}

	// Guarded by elector.mu.
	fence int64
	err   error
}

// Campaign waits for the turn of the candidate. Its only error is that of ctx.
func (e *Elector) Campaign(ctx context.Context, name, candidate string) (registry.Leadership, error) {
	s := &seat{elector: e, name: name, candidate: candidate, turn: make(chan struct{}), lost: make(chan struct{})}
	e.mu.Lock()
	e.queues[name] = append(e.queues[name], s)
	e.promoteLocked(name)
	e.mu.Unlock()
	select {
	case <-s.turn:
		return s, nil
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		e.removeLocked(s)
		return nil, context.Cause(ctx)
	}
}

// Leader is the candidate that leads, "" for none.
func (e *Elector) Leader(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if queue := e.queues[name]; len(queue) > 0 {
		return queue[0].candidate
	}
	return ""
}

// Depose takes the leadership away from who has it, as an expired lease would,
// and reports whether there was one. The next candidate leads at once.
func (e *Elector) Depose(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	queue := e.queues[name]
	if len(queue) == 0 {
		return false
	}
	s := queue[0]
	s.err = errors.New("deposed")
	close(s.lost)
	e.removeLocked(s)
	return true
}

// removeLocked takes a seat out of its queue; one that is not in it changes
// nothing.
func (e *Elector) removeLocked(s *seat) {
	queue := slices.DeleteFunc(e.queues[s.name], func(other *seat) bool { return other == s })
	if len(queue) == 0 {
		delete(e.queues, s.name)
		return
	}
	e.queues[s.name] = queue
	e.promoteLocked(s.name)
}

// promoteLocked lets the first one of a queue lead.
func (e *Elector) promoteLocked(name string) {
	first := e.queues[name][0]
	if first.fence != 0 {
		return
	}
	e.fence++
	first.fence = e.fence
	close(first.turn)
}

func (s *seat) Fence() int64 {
	s.elector.mu.Lock()
	defer s.elector.mu.Unlock()
	return s.fence
}

func (s *seat) Lost() <-chan struct{} { return s.lost }

func (s *seat) Err() error {
	s.elector.mu.Lock()
	defer s.elector.mu.Unlock()
	return s.err
}

func (s *seat) Resign(context.Context) error {
	s.elector.mu.Lock()
	defer s.elector.mu.Unlock()
	s.elector.removeLocked(s)
	return nil
}
