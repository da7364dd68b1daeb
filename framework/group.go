package framework

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"plinth.internal/internal/backoff"
)

// Pauses before a failed goroutine is started again, and the run time after
// which its failures are forgotten.
const (
	restartMin = 200 * time.Millisecond
	// DefaultMaxPause is the longest pause before a goroutine is started again,
	// unless [MaxPause] says otherwise.
	DefaultMaxPause = 5 * time.Second
	restartForget   = time.Minute
)

// maxEnded is how many goroutines that have ended are remembered.
const maxEnded = 50

// RestartPolicy says what becomes of a goroutine of [Service.Go] that has ended.
type RestartPolicy int

const (
	// RestartOnFailure starts it again after an error or a panic; after nil it is
	// done. It is the default.
	RestartOnFailure RestartPolicy = iota
	// RestartNever lets it end in any case; an error or a panic is reported.
	RestartNever
	// RestartAlways starts it again after nil as well.
	RestartAlways
	// StopOnFailure stops the app after an error or a panic: the app's Run returns
	// the error. After nil the goroutine is done.
	StopOnFailure
)

// String is the policy in words.
func (p RestartPolicy) String() string {
	switch p {
	case RestartNever:
		return "never"
	case RestartAlways:
		return "always"
	case StopOnFailure:
		return "stop on failure"
	default:
		return "on failure"
	}
}

// GoOption changes one goroutine of [Service.Go].
type GoOption interface{ applyGo(t *task) }

type goOptionFunc func(*task)

func (f goOptionFunc) applyGo(t *task) { f(t) }

// Restart says when the goroutine is started again; [RestartOnFailure] unless
// given.
func Restart(policy RestartPolicy) GoOption {
	return goOptionFunc(func(t *task) { t.policy = policy })
}

// MaxPause is the longest pause before the goroutine is started again,
// [DefaultMaxPause] unless given. The pause is drawn at random below a ceiling
// that begins at 0.2 s and doubles with each failure; a goroutine that has run
// for a minute begins at 0.2 s again. Zero and less mean the default.
func MaxPause(d time.Duration) GoOption {
	return goOptionFunc(func(t *task) {
		if d > 0 {
			t.maxPause = d
		}
	})
}

// The states of a goroutine on /debug/lifecycle.
const (
	goWaiting    = "waiting" // for the start
	goRunning    = "running"
	goRestarting = "restarting" // after a pause
	goDone       = "done"
	goFailed     = "failed" // for good
)

// group is the supervised goroutines of a service.
type group struct {
	emit func(Event)

	mu    sync.Mutex
	tasks []*task // all but those that have ended, and the last of these
	ctx   context.Context
	fail  func(error) // stops the app; nil like ctx before the start
	wg    sync.WaitGroup
}

// task is one goroutine.
type task struct {
	// Immutable.
	name     string
	fn       func(context.Context) error
	policy   RestartPolicy
	maxPause time.Duration

	// Guarded by the group's mutex.
	state    string
	since    time.Time
	restarts int
	err      error // of the last failure
}

func newGroup(emit func(Event)) *group { return &group{emit: emit} }

func (g *group) add(name string, fn func(context.Context) error, opts ...GoOption) {
	t := &task{name: name, fn: fn, maxPause: DefaultMaxPause, state: goWaiting, since: time.Now()}
	for _, opt := range opts {
		opt.applyGo(t)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx != nil && g.ctx.Err() != nil {
		return
	}
	g.tasks = append(g.tasks, t)
	if g.ctx != nil {
		g.goLocked(t)
	}
}

// start starts what was added, and what will be. Fail stops the app.
func (g *group) start(ctx context.Context, fail func(error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ctx, g.fail = ctx, fail
	for _, t := range g.tasks {
		g.goLocked(t)
	}
}

func (g *group) goLocked(t *task) {
	ctx, fail := g.ctx, g.fail
	if ctx.Err() != nil {
		return
	}
	t.state, t.since = goRunning, time.Now()
	g.wg.Go(func() {
		end := goDone
		defer func() { g.ended(t, end) }()
		err := labelled(ctx, t.name, func(ctx context.Context) error { return g.supervise(ctx, t) })
		if err == nil {
			return
		}
		end = goFailed
		if t.policy == StopOnFailure {
			fail(fmt.Errorf("goroutine %s: %w", t.name, err))
		}
	})
}

// supervise runs a goroutine until it has ended for good, and returns its error
// if that is why.
func (g *group) supervise(ctx context.Context, t *task) error {
	for failures := 0; ; failures++ {
		start := time.Now()
		err := protect(func() error { return t.fn(ctx) })
		if ctx.Err() != nil || err == nil && t.policy != RestartAlways {
			return nil //nolint:nilerr // how it ends once it was told to end is its own matter
		}
		if time.Since(start) > restartForget {
			failures = 0
		}
		final := err != nil && (t.policy == RestartNever || t.policy == StopOnFailure)
		restart := backoff.FullJitter(restartMin, t.maxPause, failures)
		if err != nil {
			stack, short := unpanic(err)
			g.failed(t, short)
			if final {
				g.emit(GoroutineFailed{Name: t.name, Err: short, Stack: stack, Policy: t.policy})
				return short
			}
			g.emit(GoroutineFailed{Name: t.name, Err: short, Stack: stack, Policy: t.policy, Restart: restart})
		}
		g.moved(t, goRestarting)
		if !pause(ctx, restart) {
			return nil
		}
		g.moved(t, goRunning)
	}
}

// moved notes a change of state.
func (g *group) moved(t *task, state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.state == goRestarting && state == goRunning {
		t.restarts++
	}
	t.state, t.since = state, time.Now()
}

func (g *group) failed(t *task, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.err = err
}

// ended notes the end, and forgets the oldest of those that have ended if there
// are many.
func (g *group) ended(t *task, state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.state, t.since = state, time.Now()
	var oldest *task
	ended := 0
	for _, other := range g.tasks {
		if other.live() {
			continue
		}
		ended++
		if oldest == nil || other.since.Before(oldest.since) {
			oldest = other
		}
	}
	if ended > maxEnded {
		g.tasks = slices.DeleteFunc(g.tasks, func(other *task) bool { return other == oldest })
	}
}

func (t *task) live() bool { return t.state == goRunning || t.state == goRestarting }

// wait waits for all goroutines, which their context has told to end, and names
// those that do not within the limit.
func (g *group) wait(limit time.Duration) error {
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, t := range g.tasks {
		if t.live() && !slices.Contains(names, t.name) {
			names = append(names, t.name)
		}
	}
	slices.Sort(names)
	return &overrunError{fmt.Errorf("goroutines that did not end within %v: %s", limit, strings.Join(names, ", "))}
}

// GoroutineDocument is a supervised goroutine in a [LifecycleDocument].
type GoroutineDocument struct {
	Name string `json:"name"`
	// State is waiting (for the start), running, restarting, done or failed.
	State string `json:"state"`
	Since string `json:"since"`
	// Restart is the policy.
	Restart  string `json:"restart"`
	Restarts int    `json:"restarts"`
	// Error is that of the last failure, "" for none.
	Error string `json:"error"`
}

func (g *group) document() []GoroutineDocument {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]GoroutineDocument, 0, len(g.tasks))
	for _, t := range g.tasks {
		out = append(out, GoroutineDocument{
			Name: t.name, State: t.state, Since: stamp(t.since), Restart: t.policy.String(), Restarts: t.restarts, Error: text(t.err),
		})
	}
	slices.SortStableFunc(out, func(x, y GoroutineDocument) int { return cmp.Compare(x.Name, y.Name) })
	return out
}
