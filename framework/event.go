package framework

import (
	"time"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/middleware/auth"
	"plinth.internal/middleware/limit"
	"plinth.internal/registry"
	"plinth.internal/server"
)

// Event is something that an app did or noticed. The set is closed; the log is
// one way to show it ([WithEvents] is another).
type Event interface{ event() }

// Listening says that the listeners are bound.
type Listening struct {
	// Endpoints are the bound addresses by listener name.
	Endpoints map[string]string
}

// Waiting says that the app cannot serve yet; it is said again when the reason
// changes.
type Waiting struct{ Err error }

// Ready says that the app serves.
type Ready struct {
	// Took is the time since Run began.
	Took time.Duration
}

// Unregistered says that the instance will not be announced, because no registry
// is configured.
type Unregistered struct{}

// SnapshotsOff says that the lists of instances are not kept on disk, because
// there is no place for them: without the registry this process could not be
// started anew.
type SnapshotsOff struct{ Err error }

// RegistryEvent is an event of the registry.
type RegistryEvent struct{ Event registry.Event }

// ClientEvent is an event of the client.
type ClientEvent struct{ Event client.Event }

// ConfigEvent is an event of the configuration's file.
type ConfigEvent struct{ Event config.Event }

// ServerEvent is an event of the server's TLS.
type ServerEvent struct{ Event server.TLSEvent }

// AuthEvent is an event of the keys that callers' tokens are checked with.
type AuthEvent struct{ Event auth.Event }

// AuthOff says that calls are not checked although the service declares who may
// call, because server.auth.mode is off.
type AuthOff struct{}

// SettingsIdle says that keys of the configuration were given which do nothing.
type SettingsIdle struct {
	// Keys are the keys, Places where each was given.
	Keys, Places []string
	// Because names the key that is in the way and what it is.
	Because string
}

// LimitEvent is an event of what turns calls away.
type LimitEvent struct{ Event limit.Event }

// Unprotected says that calls are taken from other machines without TLS, and that
// nothing in the configuration wants it so.
type Unprotected struct {
	// Listeners are the listeners with their addresses.
	Listeners []string
}

// CheckChanged says that a check or a heartbeat changed its status.
type CheckChanged struct{ Result health.Result }

// HeartbeatStuck says that a heartbeat is overdue, with the stack of the
// goroutine that used to beat. CheckChanged is told as well.
type HeartbeatStuck struct{ Stuck health.Stuck }

// HandlerPanicked says that a handler panicked; the caller got INTERNAL.
type HandlerPanicked struct {
	Method  string
	TraceID string
	Value   any
	Stack   []byte
}

// GoroutineFailed says that a function given to Service.Go returned an error or
// panicked.
type GoroutineFailed struct {
	Name string
	Err  error
	// Stack is that of a panic, nil for an error.
	Stack []byte
	// Policy says what becomes of it, Restart when it is started again if it is.
	Policy  RestartPolicy
	Restart time.Duration
}

// LeadershipChanged says that this instance has begun or ceased to be the one that
// runs a job.
type LeadershipChanged struct {
	Job     string
	Leading bool
	Fence   int64
	// Err is why it was lost, or could not be handed over; nil for neither.
	Err error
}

// CampaignFailed says that this instance cannot stand for the election of a job;
// it tries on, and says it again when the reason changes.
type CampaignFailed struct {
	Job string
	Err error
}

// JobRan says that a run of a job is over.
type JobRan struct {
	Job string
	// Outcome is ok, failed, panicked or cut_short.
	Outcome string
	Took    time.Duration
	Err     error
	// Stack is that of a panic.
	Stack []byte
}

// SpansLost says that spans could not be sent.
type SpansLost struct{ Err error }

// Stopping says that the app begins to stop, and why.
type Stopping struct{ Reason string }

// PhaseEnded says that one phase of the start or of the stop is over. Those of the
// start are told once it has succeeded.
type PhaseEnded struct {
	// Stage is StageStart or StageStop.
	Stage string
	Phase string
	Began time.Time
	Took  time.Duration
	// Late are the calls that came after callers had been told to go elsewhere: in
	// the phase that waits for quiet those after the draining mark, in the one
	// that finishes calls those after the withdrawal; nil elsewhere.
	Late *LateCalls
	Err  error
}

// DumpKept says where it is written down what the process did when a phase of the
// stop took too long.
type DumpKept struct {
	Phase string
	// Goroutines and Trace are the files, "" where there is none.
	Goroutines string
	Trace      string
	// Err is why one of them is missing, nil for neither.
	Err error
}

// Stopped says that the app has stopped.
type Stopped struct {
	Took time.Duration
	Err  error
}

func (Listening) event()         {}
func (Waiting) event()           {}
func (Ready) event()             {}
func (Unregistered) event()      {}
func (SnapshotsOff) event()      {}
func (RegistryEvent) event()     {}
func (ClientEvent) event()       {}
func (ConfigEvent) event()       {}
func (ServerEvent) event()       {}
func (AuthEvent) event()         {}
func (AuthOff) event()           {}
func (SettingsIdle) event()      {}
func (LimitEvent) event()        {}
func (Unprotected) event()       {}
func (CheckChanged) event()      {}
func (HeartbeatStuck) event()    {}
func (HandlerPanicked) event()   {}
func (GoroutineFailed) event()   {}
func (LeadershipChanged) event() {}
func (CampaignFailed) event()    {}
func (JobRan) event()            {}
func (DumpKept) event()          {}
func (SpansLost) event()         {}
func (Stopping) event()          {}
func (PhaseEnded) event()        {}
func (Stopped) event()           {}
