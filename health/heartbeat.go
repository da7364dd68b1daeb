package health

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// heartbeat is a goroutine that has promised to show signs of life.
type heartbeat struct {
	name string
	max  time.Duration
	last atomic.Pointer[time.Time]
	ok   bool // as onChange was told last; owned by watchHeartbeats
}

func (b *heartbeat) result(now time.Time) Result {
	last := *b.last.Load()
	r := Result{Name: b.name, Status: StatusOK, Critical: true, Latency: max(now.Sub(last), 0), CheckedAt: now}
	if r.Latency > b.max {
		r.Status = StatusDown
		r.Error = fmt.Sprintf("no beat for %v, at most %v is allowed", r.Latency.Round(time.Millisecond), b.max)
	}
	return r
}

// Heartbeat watches over a goroutine: the process is not ready while the
// returned function has not been called for longer than pause. The first beat is
// counted at once. It may be added at any time; the name must be new and pause
// above zero.
func (h *Health) Heartbeat(name string, pause time.Duration) (beat func(), err error) {
	if name == "" || pause <= 0 {
		return nil, errors.New("add heartbeat: it needs a name and a longest pause above zero")
	}
	b := &heartbeat{name: name, max: pause, ok: true}
	beat = func() {
		now := time.Now()
		b.last.Store(&now)
	}
	beat()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.namedLocked(name) {
		return nil, fmt.Errorf("add heartbeat %q: the name is taken", name)
	}
	h.heartbeats = append(h.heartbeats, b)
	return beat, nil
}

// heartbeatTick bounds how late an overdue heartbeat is noticed.
const heartbeatTick = 250 * time.Millisecond

// watchHeartbeats makes an overdue heartbeat known without anybody asking.
func (h *Health) watchHeartbeats(ctx context.Context) {
	for wait(ctx, heartbeatTick) {
		now := time.Now()
		var changed []Result
		h.mu.Lock()
		for _, b := range h.heartbeats {
			if r := b.result(now); (r.Status == StatusOK) != b.ok {
				b.ok = !b.ok
				changed = append(changed, r)
			}
		}
		h.publishLocked(now)
		h.mu.Unlock()
		if h.onChange != nil {
			for _, r := range changed {
				h.onChange(r)
			}
		}
	}
}
