package framework

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sync"
	"time"

	"plinth.internal/internal/backoff"
	"plinth.internal/internal/errtext"
	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

// The longest pause before an instance stands for an election again that it could
// not stand for, and the bound of giving a leadership up.
const (
	campaignMax   = 2 * time.Second
	resignTimeout = 3 * time.Second
)

// Job runs fn every so often, on exactly one instance of the service at a time:
// the one that the instances have elected in the registry. The runs are at fixed
// times, multiples of every from a moment that the names of service and job
// decide, so that they stay where they are when another instance takes over, and
// jobs of the same interval do not all run at once. A run that takes longer than
// the interval leaves out those that fall into it; a run that falls into a moment
// without a leader is left out, too. An error or a panic is reported, and the job
// runs again at its next time.
//
// The context of fn ends when the app begins to stop and when the leadership is
// lost; fn must return then. At the stop the leadership is given up as soon as fn
// has returned, and another instance goes on within a second. What a job does
// twice must do no harm: see [Fence].
//
// Register it during setup. The name must be one that a service could have. With
// a static registry, which is none, the instance leads by itself. A registry that
// cannot hold elections ends the start with an error; [WithElector] gives it one.
func (s *Service) Job(name string, every time.Duration, fn func(context.Context) error, opts ...JobOption) {
	if every <= 0 {
		s.app.note(fmt.Errorf("register job %s: the interval %v is not above zero", name, every))
		return
	}
	j := &job{name: name, every: every, fn: fn}
	for _, opt := range opts {
		opt.applyJob(j)
	}
	s.app.note(s.app.jobs.add(j))
}

// Lead runs fn while this instance is the leader of the service for that name. The
// context of fn ends when the app begins to stop and when the leadership is lost;
// fn must return then, and should not before: when it returns, or panics, the
// leadership is given up and this instance stands again after a pause, behind
// those that wait already. Everything else is as with [Service.Job].
func (s *Service) Lead(name string, fn func(context.Context) error) {
	s.app.note(s.app.jobs.add(&job{name: name, fn: fn}))
}

// Fence is the number of the leadership that a job's context belongs to, 0 outside
// of jobs. Every later leader has a greater one. A job that writes to a store
// sends it along, and the store refuses what comes with a smaller one than it has
// seen: that alone is safe from an instance that was stopped for a while and has
// not noticed yet that another one leads.
func Fence(ctx context.Context) int64 {
	fence, _ := ctx.Value(fenceKey{}).(int64)
	return fence
}

type fenceKey struct{}

// JobOption changes one job of [Service.Job].
type JobOption interface{ applyJob(j *job) }

type jobOptionFunc func(*job)

func (f jobOptionFunc) applyJob(j *job) { f(j) }

// AtOnce has the job run also when an instance begins to lead, and not only at its
// times: for what must not wait for a long interval after a restart.
func AtOnce() JobOption { return jobOptionFunc(func(j *job) { j.atOnce = true }) }

// The outcomes of a run.
const (
	runOK       = "ok"
	runFailed   = "failed"
	runPanicked = "panicked"
	runCutShort = "cut_short" // its context ended
	runSkipped  = "skipped"   // the one before was not over
)

// job is one job, or with every 0 what Service.Lead was given.
type job struct {
	// Immutable.
	name   string
	every  time.Duration
	fn     func(context.Context) error
	atOnce bool

	mu      sync.Mutex
	leading bool
	since   time.Time // of leading or not
	fence   int64
	failing error // why there is no candidacy
	running bool
	began   time.Time // of the last run
	took    time.Duration
	outcome string
	err     error
	next    time.Time
	runs    map[string]int // by outcome
}

// jobs are the jobs of an app.
type jobs struct {
	app     *App
	elector registry.Elector
	own     io.Closer // the elector if it was opened here

	mu    sync.Mutex
	list  []*job
	group *group // nil before the start
	ready bool   // setup is over
}

// add adds a job during setup.
func (js *jobs) add(j *job) error {
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.ready {
		return fmt.Errorf("register job %s: the app has started already; register it during setup", j.name)
	}
	if err := validName("job", j.name); err != nil {
		return fmt.Errorf("register job: %w", err)
	}
	if j.fn == nil {
		return fmt.Errorf("register job %s: the function is nil", j.name)
	}
	if slices.ContainsFunc(js.list, func(other *job) bool { return other.name == j.name }) {
		return fmt.Errorf("register job %s: the name is taken", j.name)
	}
	j.since, j.runs = time.Now(), map[string]int{}
	js.list = append(js.list, j)
	return nil
}

// open ends the registration and finds who holds the elections, if there are any
// jobs.
func (js *jobs) open() error {
	js.mu.Lock()
	js.ready = true
	n := len(js.list)
	js.mu.Unlock()
	if n == 0 {
		return nil
	}
	a := js.app
	switch kind := a.registry.Kind(); {
	case a.opts.elector != nil:
		js.elector = a.opts.elector
	case a.newElector != nil:
		js.elector, js.own = a.newElector()
	case kind == kindStatic:
		js.elector = memory.NewElector() // nobody else is known
	case a.opts.registry != nil:
		return fmt.Errorf("elect an instance for job %s: the %s registry was given without an elector; "+
			"give one as well with framework.WithElector", js.list[0].name, kind)
	default:
		return fmt.Errorf("elect an instance for job %s: the registry %s cannot hold elections; "+
			"set registry.kind to etcd, or give an elector with framework.WithElector", js.list[0].name, kind)
	}
	return nil
}

// start begins to stand for the elections.
func (js *jobs) start(ctx context.Context, fail func(error)) {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.group = newGroup(js.app.emit)
	for _, j := range js.list {
		js.group.add("job "+j.name, func(ctx context.Context) error {
			js.run(ctx, j)
			return nil
		})
	}
	js.group.start(ctx, fail)
}

// handOver waits until all jobs have ended, which their context has told to, and
// their leaderships are given up.
func (js *jobs) handOver() error {
	js.mu.Lock()
	g := js.group
	js.mu.Unlock()
	if g == nil {
		return nil
	}
	return g.wait(stopTimeout)
}

func (js *jobs) any() bool {
	js.mu.Lock()
	defer js.mu.Unlock()
	return len(js.list) > 0
}

func (js *jobs) close() error {
	if js.own == nil {
		return nil
	}
	return js.own.Close()
}

// run stands for the election of a job for as long as ctx lives.
func (js *jobs) run(ctx context.Context, j *job) {
	for failures := 0; ; failures++ {
		lead, err := js.elector.Campaign(ctx, js.app.name+"/"+j.name, js.app.instance.ID)
		if err == nil {
			if js.lead(ctx, j, lead) == nil {
				failures = 0
			}
		} else if ctx.Err() == nil {
			js.campaignFailed(j, err)
		}
		if !pause(ctx, restartMin/2+backoff.FullJitter(restartMin, campaignMax, failures)) {
			return
		}
	}
}

// campaignFailed tells of a campaign that failed, once for each reason.
func (js *jobs) campaignFailed(j *job, err error) {
	j.mu.Lock()
	known := j.failing != nil && errtext.Of(j.failing) == errtext.Of(err)
	j.failing = err
	j.mu.Unlock()
	if !known {
		js.app.emit(CampaignFailed{Job: j.name, Err: err})
	}
}

// lead runs a job until it ends, ctx does, or the leadership is lost. It returns
// the error of the job.
func (js *jobs) lead(ctx context.Context, j *job, lead registry.Leadership) error {
	js.changed(j, LeadershipChanged{Job: j.name, Leading: true, Fence: lead.Fence()})
	work, end := context.WithCancelCause(context.WithValue(ctx, fenceKey{}, lead.Fence()))
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-lead.Lost():
			end(fmt.Errorf("the leadership is lost: %w", lead.Err()))
		case <-work.Done():
		}
	})
	var err error
	if j.every == 0 {
		err = js.once(work, j)
	} else {
		js.schedule(work, j)
	}
	end(nil)
	watching.Wait()
	lost := lead.Err()
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if resign := lead.Resign(rctx); lost == nil && resign != nil {
		lost = fmt.Errorf("hand over: %w; the next instance waits for registry.ttl", resign)
	}
	js.changed(j, LeadershipChanged{Job: j.name, Fence: lead.Fence(), Err: lost})
	return err
}

func (js *jobs) changed(j *job, e LeadershipChanged) {
	j.mu.Lock()
	j.leading, j.since, j.fence, j.failing, j.next = e.Leading, time.Now(), e.Fence, nil, time.Time{}
	j.mu.Unlock()
	js.app.emit(e)
}

// schedule runs a job at its times until ctx ends.
func (js *jobs) schedule(ctx context.Context, j *job) {
	if j.atOnce {
		_ = js.once(ctx, j) // told of already
	}
	for last := time.Now(); ; {
		next := j.after(js.app.name, last)
		j.mu.Lock()
		j.next = next
		j.mu.Unlock()
		if !pause(ctx, time.Until(next)) {
			return
		}
		_ = js.once(ctx, j) // likewise
		// A clock that was set back does not repeat a run.
		last = time.Now()
		if last.Before(next) {
			last = next
		}
		if skipped := int(last.Sub(next) / j.every); skipped > 0 {
			js.count(j, runSkipped, skipped)
		}
	}
}

// after is the first of a job's times after another time.
func (j *job) after(service string, t time.Time) time.Time {
	h := fnv.New64a()
	_, _ = io.WriteString(h, service+"/"+j.name) // a hash takes everything
	offset := time.Duration(h.Sum64() % uint64(j.every))
	return t.Add(-offset).Truncate(j.every).Add(j.every + offset)
}

// once runs a job once.
func (js *jobs) once(ctx context.Context, j *job) error {
	j.mu.Lock()
	j.running, j.began = true, time.Now()
	began := j.began
	j.mu.Unlock()
	stack, short := unpanic(protect(func() error { return j.fn(ctx) }))
	outcome := runOK
	switch {
	case stack != nil:
		outcome = runPanicked
	case short != nil && ctx.Err() != nil:
		outcome = runCutShort
	case short != nil:
		outcome = runFailed
	}
	took := time.Since(began)
	j.mu.Lock()
	j.running, j.took, j.outcome, j.err = false, took, outcome, short
	j.mu.Unlock()
	js.count(j, outcome, 1)
	js.app.emit(JobRan{Job: j.name, Outcome: outcome, Took: took, Err: short, Stack: stack})
	return short
}

func (js *jobs) count(j *job, outcome string, n int) {
	j.mu.Lock()
	j.runs[outcome] += n
	j.mu.Unlock()
	js.app.metrics.CountJobRuns(j.name, outcome, n)
	if outcome == runOK {
		js.app.metrics.SetJobSuccess(j.name, time.Now())
	}
}
