package framework

import (
	"sync"
	"time"
)

// The stages of an app's life that have phases.
const (
	StageStart = "start"
	StageStop  = "stop"
)

// The phases of the start, in order. With registry.required the last two change
// places.
const (
	phaseConfig     = "read configuration"
	phaseTelemetry  = "start telemetry"
	phaseParts      = "build parts"
	phaseSetup      = "set up"
	phaseListen     = "bind listeners"
	phaseBackground = "start background"
	phaseChecks     = "await checks"
	phaseServe      = "serve"
	phaseAnnounce   = "announce"
)

// timeline is the phases that an app has gone through. Phases may overlap.
type timeline struct {
	mu     sync.Mutex
	phases []*phase
	start  *phase // the phase of the start that runs, nil for none
}

// phase is one phase; all of it is guarded by the timeline's mutex.
type phase struct {
	stage, name string
	began       time.Time
	took        time.Duration
	running     bool
	err         error // why it failed, or why it still runs
	late        *LateCalls
}

// begin begins a phase beside those that run.
func (t *timeline) begin(stage, name string) *phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beginLocked(stage, name)
}

func (t *timeline) beginLocked(stage, name string) *phase {
	p := &phase{stage: stage, name: name, began: time.Now(), running: true}
	t.phases = append(t.phases, p)
	return p
}

// end ends a phase, which may fail, and tells of it.
func (t *timeline) end(p *phase, err error, late *LateCalls) PhaseEnded {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.took, p.running, p.err, p.late = time.Since(p.began), false, err, late
	return p.eventLocked()
}

// note says why a phase still runs.
func (t *timeline) note(p *phase, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.err = err
}

// next ends the phase of the start that runs and begins another one.
func (t *timeline) next(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endStartLocked(nil)
	t.start = t.beginLocked(StageStart, name)
}

// started ends the phase of the start that runs, if any.
func (t *timeline) started(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endStartLocked(err)
}

func (t *timeline) endStartLocked(err error) {
	if p := t.start; p != nil {
		p.took, p.running, p.err = time.Since(p.began), false, err
		t.start = nil
	}
}

func (p *phase) eventLocked() PhaseEnded {
	return PhaseEnded{Stage: p.stage, Phase: p.name, Began: p.began, Took: p.took, Late: p.late, Err: p.err}
}

// ended are the phases that are over, in the order in which they began.
func (t *timeline) ended() []PhaseEnded {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []PhaseEnded
	for _, p := range t.phases {
		if !p.running {
			out = append(out, p.eventLocked())
		}
	}
	return out
}

// document is the timeline as /debug/lifecycle shows it.
func (t *timeline) document(now time.Time) []LifecyclePhase {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]LifecyclePhase, 0, len(t.phases))
	for _, p := range t.phases {
		took := p.took
		if p.running {
			took = now.Sub(p.began)
		}
		out = append(out, LifecyclePhase{
			Stage: p.stage, Name: p.name, Began: stamp(p.began), TookMS: milliseconds(took), Running: p.running,
			Late: lateDocument(p.late), Error: text(p.err),
		})
	}
	return out
}

// LifecycleDocument is what /debug/lifecycle answers.
type LifecycleDocument struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Time     string `json:"time"`
	// State is starting, serving, draining, or stopped: then it takes no more
	// calls, though the stop may go on.
	State string `json:"state"`
	// Phases are those of the start and of the stop, in the order in which they
	// began.
	Phases []LifecyclePhase `json:"phases"`
	// Drain is what the drain has found out so far, nil before it.
	Drain *DrainDocument `json:"drain,omitempty"`
	// Dumps are what was kept because the stop took too long.
	Dumps []DumpDocument `json:"dumps"`
	// Goroutines are those of Service.Go, sorted by name: all that run, and the
	// last that have ended.
	Goroutines []GoroutineDocument `json:"goroutines"`
	// Jobs are those of Service.Job and Service.Lead, sorted by name.
	Jobs []JobDocument `json:"jobs"`
}

// LifecyclePhase is one phase in a [LifecycleDocument].
type LifecyclePhase struct {
	// Stage is start or stop.
	Stage  string  `json:"stage"`
	Name   string  `json:"name"`
	Began  string  `json:"began"`
	TookMS float64 `json:"took_ms"`
	// Running says that it is not over; TookMS is the time so far then.
	Running bool `json:"running"`
	// Late are the calls that came after callers had been told to go elsewhere,
	// where the phase measures that.
	Late *LateDocument `json:"late,omitempty"`
	// Error is what went wrong, or why the phase still runs.
	Error string `json:"error"`
}

// Lifecycle is what /debug/lifecycle answers at this moment: how the app has
// started, how it stops, and how its goroutines and jobs do. It waits for
// nothing, and can be asked after Run as well.
func (a *App) Lifecycle() LifecycleDocument {
	now := time.Now()
	return LifecycleDocument{
		Service: a.name, Instance: a.instance.ID, Time: stamp(now), State: string(a.health.Phase()),
		Phases: a.timeline.document(now), Drain: a.late.document(), Dumps: a.box.document(),
		Goroutines: a.group.document(), Jobs: a.jobs.document(),
	}
}
