package framework

import (
	"time"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/health"
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

// Unprotected says that calls are taken from other machines without TLS, and that
// nothing in the configuration wants it so.
type Unprotected struct {
	// Listeners are the listeners with their addresses.
	Listeners []string
}

// CheckChanged says that a check or a heartbeat changed its status.
type CheckChanged struct{ Result health.Result }

// HandlerPanicked says that a handler panicked; the caller got INTERNAL.
type HandlerPanicked struct {
	Method  string
	TraceID string
	Value   any
	Stack   []byte
}

// GoroutineFailed says that a function given to Service.Go returned an error or
// panicked, and when it is started again.
type GoroutineFailed struct {
	Name    string
	Err     error
	Restart time.Duration
}

// SpansLost says that spans could not be sent.
type SpansLost struct{ Err error }

// Stopping says that the app begins to stop, and why.
type Stopping struct{ Reason string }

// PhaseEnded says that one phase of the shutdown is over.
type PhaseEnded struct {
	Phase string
	Took  time.Duration
	Err   error
}

// Stopped says that the app has stopped.
type Stopped struct {
	Took time.Duration
	Err  error
}

func (Listening) event()       {}
func (Waiting) event()         {}
func (Ready) event()           {}
func (Unregistered) event()    {}
func (SnapshotsOff) event()    {}
func (RegistryEvent) event()   {}
func (ClientEvent) event()     {}
func (ConfigEvent) event()     {}
func (ServerEvent) event()     {}
func (Unprotected) event()     {}
func (CheckChanged) event()    {}
func (HandlerPanicked) event() {}
func (GoroutineFailed) event() {}
func (SpansLost) event()       {}
func (Stopping) event()        {}
func (PhaseEnded) event()      {}
func (Stopped) event()         {}
