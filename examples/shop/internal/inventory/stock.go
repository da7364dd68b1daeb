package inventory

import (
	"maps"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stock stands for a database.
type stock struct {
	mu       sync.Mutex
	full     map[string]int64 // immutable
	left     map[string]int64
	reserved map[string]reservation // by order
	changed  chan struct{}          // closed and replaced at every change
}

type reservation struct {
	item     string
	quantity int64
}

func newStock(full map[string]int64) *stock {
	return &stock{full: full, left: maps.Clone(full), reserved: map[string]reservation{}, changed: make(chan struct{})}
}

func (s *stock) reserve(order, item string, quantity int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.reserved[order]; ok {
		return nil
	}
	left, ok := s.left[item]
	switch {
	case !ok:
		return status.Errorf(codes.NotFound, "there is no item %q", item)
	case left < quantity:
		return status.Errorf(codes.FailedPrecondition, "only %d of %q are left", left, item)
	}
	s.left[item] -= quantity
	s.reserved[order] = reservation{item, quantity}
	s.changeLocked()
	return nil
}

func (s *stock) release(order string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.reserved[order]; ok {
		delete(s.reserved, order)
		s.left[r.item] += r.quantity
		s.changeLocked()
	}
}

func (s *stock) restock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = maps.Clone(s.full)
	s.changeLocked()
}

// look is what is left of an item, and a channel that is closed when that may
// have changed.
func (s *stock) look(item string) (int64, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, ok := s.left[item]
	if !ok {
		return 0, nil, status.Errorf(codes.NotFound, "there is no item %q", item)
	}
	return left, s.changed, nil
}

func (s *stock) changeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}
