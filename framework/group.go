package framework

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"plinth.internal/internal/backoff"
)

// Pauses before a failed goroutine is started again, and the run time after
// which its failures are forgotten.
const (
	restartMin    = 200 * time.Millisecond
	restartMax    = 5 * time.Second
	restartForget = time.Minute
)

// group is the supervised goroutines of a service.
type group struct {
	emit func(Event)

	mu      sync.Mutex
	waiting []task          // added before start
	ctx     context.Context // nil before start
	running map[string]int  // by name
	wg      sync.WaitGroup
}

type task struct {
	name string
	fn   func(context.Context) error
}

func newGroup(emit func(Event)) *group {
	return &group{emit: emit, running: map[string]int{}}
}

func (g *group) add(name string, fn func(context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx == nil {
		g.waiting = append(g.waiting, task{name, fn})
		return
	}
	g.goLocked(task{name, fn})
}

func (g *group) start(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ctx = ctx
	for _, t := range g.waiting {
		g.goLocked(t)
	}
	g.waiting = nil
}

func (g *group) goLocked(t task) {
	ctx := g.ctx
	if ctx.Err() != nil {
		return
	}
	g.running[t.name]++
	g.wg.Go(func() {
		g.supervise(ctx, t)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running[t.name]--; g.running[t.name] == 0 {
			delete(g.running, t.name)
		}
	})
}

func (g *group) supervise(ctx context.Context, t task) {
	for failures := 0; ; failures++ {
		start := time.Now()
		err := protect(func() error { return t.fn(ctx) })
		if err == nil || ctx.Err() != nil {
			return
		}
		if time.Since(start) > restartForget {
			failures = 0
		}
		restart := backoff.FullJitter(restartMin, restartMax, failures)
		g.emit(GoroutineFailed{Name: t.name, Err: err, Restart: restart})
		if !pause(ctx, restart) {
			return
		}
	}
}

// wait waits for all goroutines, which their context has told to end. The
// caller bounds it.
func (g *group) wait() error {
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(stopTimeout):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for name := range g.running {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Errorf("goroutines that did not end within %v: %s", stopTimeout, strings.Join(names, ", "))
}

func panicError(value any) error {
	if err, ok := value.(error); ok {
		return fmt.Errorf("panic: %w\n%s", err, debug.Stack())
	}
	return fmt.Errorf("panic: %v\n%s", value, debug.Stack())
}
