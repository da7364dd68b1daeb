// Package health knows whether a process can do its work, and why not: named
// checks that run in the background, heartbeats of goroutines that must not get
// stuck, and the phase of the process' life. It answers grpc.health.v1 and
// gives the numbers for /health.
//
// Guarantees: reading a [Report] never runs a check and never waits for one, so
// a check that hangs cannot hang it; a check runs at most once at a time, also
// when it ignores its context; all methods may be called from any goroutine.
package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Phase is where a process is in its life.
type Phase string

// The phases, in their order. A process is ready only while it serves.
const (
	Starting Phase = "starting"
	Serving  Phase = "serving"
	Draining Phase = "draining"
	Stopped  Phase = "stopped"
)

// Func checks one thing; nil means that it is well. The context ends at the
// check's timeout.
type Func func(ctx context.Context) error

// Health is the health of one process.
type Health struct {
	grpc     *health.Server
	onChange func(Result)

	mu         sync.Mutex
	phase      Phase
	checks     []*check
	heartbeats []*heartbeat
	services   []string // gRPC services that follow the readiness of the process
	started    bool     // Run was called
	ready      bool     // as grpc was told last
}

// Option changes a Health.
type Option func(*Health)

// OnChange has fn called after a check's status has changed, from the goroutine
// that ran the check.
func OnChange(fn func(Result)) Option { return func(h *Health) { h.onChange = fn } }

// New builds the health of a process that is starting.
func New(opts ...Option) *Health {
	h := &Health{grpc: health.NewServer(), phase: Starting}
	for _, o := range opts {
		o(h)
	}
	h.grpc.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	return h
}

// GRPC is the grpc.health.v1 server; "" and every service of [Health.Serve]
// follow the readiness of the process, Watch included.
func (h *Health) GRPC() healthpb.HealthServer { return h.grpc }

// Serve makes grpc.health.v1 answer for a gRPC service by its name.
func (h *Health) Serve(service string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.services = append(h.services, service)
	h.grpc.SetServingStatus(service, servingStatus(h.ready))
}

// SetPhase moves the process to another phase of its life.
func (h *Health) SetPhase(p Phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = p
	h.publishLocked(time.Now())
}

// Phase is the phase of the process.
func (h *Health) Phase() Phase {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase
}

// Ready reports whether the process wants calls: it serves, every critical
// check passed when it was last run, and no heartbeat is overdue.
func (h *Health) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readyLocked(time.Now())
}

func (h *Health) readyLocked(now time.Time) bool {
	return h.phase == Serving && h.blockedLocked(now) == nil
}

// blockedLocked is why the checks and heartbeats stand against serving.
func (h *Health) blockedLocked(now time.Time) error {
	var errs []error
	for _, c := range h.checks {
		if c.critical && c.result.Status != StatusOK {
			errs = append(errs, fmt.Errorf("check %q: %s", c.result.Name, c.result.Error))
		}
	}
	for _, b := range h.heartbeats {
		if r := b.result(now); r.Status != StatusOK {
			errs = append(errs, fmt.Errorf("heartbeat %q: %s", r.Name, r.Error))
		}
	}
	return errors.Join(errs...)
}

// publishLocked tells grpc.health.v1 what changed.
func (h *Health) publishLocked(now time.Time) {
	ready := h.readyLocked(now)
	if ready == h.ready {
		return
	}
	h.ready = ready
	h.grpc.SetServingStatus("", servingStatus(ready))
	for _, s := range h.services {
		h.grpc.SetServingStatus(s, servingStatus(ready))
	}
}

func servingStatus(ready bool) healthpb.HealthCheckResponse_ServingStatus {
	if ready {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// Status is the status of one check.
type Status string

// A check is pending until it has run once.
const (
	StatusOK      Status = "ok"
	StatusDown    Status = "down"
	StatusPending Status = "pending"
)

// Result is what is known of one check or heartbeat.
type Result struct {
	Name string
	// Status is ok, down or pending.
	Status Status
	// Latency is how long the last run took, or for a heartbeat how long ago
	// the last beat was.
	Latency time.Duration
	// Critical says that the process is not ready unless the status is ok.
	Critical bool
	// CheckedAt is the end of the last run; zero while pending.
	CheckedAt time.Time
	// Error is why the status is not ok.
	Error string
}

// Report is the health of a process at one moment.
type Report struct {
	Phase Phase
	Ready bool
	// Results are sorted by name.
	Results []Result
}

// Report tells the phase and the last result of every check and heartbeat. It
// does not wait for anything.
func (h *Health) Report() Report {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	r := Report{Phase: h.phase, Ready: h.readyLocked(now)}
	for _, c := range h.checks {
		r.Results = append(r.Results, c.result)
	}
	for _, b := range h.heartbeats {
		r.Results = append(r.Results, b.result(now))
	}
	slices.SortFunc(r.Results, func(a, b Result) int { return strings.Compare(a.Name, b.Name) })
	return r
}
