// Package health knows whether a process can do its work, and why not: named
// checks that run in the background, heartbeats of goroutines that must not get
// stuck, and the phase of the process' life. It answers grpc.health.v1 and
// gives the numbers for /health.
//
// A check says something about the process itself ([SQL], [Ping], [Redis],
// [DiskSpace], or any function), or about another service ([GRPC], [HTTP],
// [Dependency]). The second kind is not critical unless told so, so that one
// outage does not walk up the chain of services.
//
// A process that stops being ready too often is held back: after the fourth
// time within a minute it stays not ready for 10 s, and twice as long each time
// that it falls again within a minute of that, up to 2 min. Once it has been
// well for a minute nothing holds it back any more. Holding back is not
// configurable, and touches neither the start nor liveness.
//
// Guarantees: reading a [Report] never runs a check and never waits for one, so
// a check that hangs cannot hang it; a check runs at most once at a time, also
// when it ignores its context; an overdue heartbeat is told within 250 ms; all
// methods may be called from any goroutine. Functions given as options are
// called from the goroutine that noticed, without a lock; one that blocks holds
// up what it is told about.
//
// The package has more names than most: each ready-made check and each option
// of a check is one.
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
	// As it was built.
	grpc     *health.Server
	onChange func(Result)
	onStuck  func(Stuck)

	mu         sync.Mutex
	phase      Phase
	checks     []*check
	heartbeats []*heartbeat
	services   map[string]bool // gRPC services, and whether they serve as grpc was told last
	more       chan struct{}   // closed and made anew when there is another one
	started    bool            // Run was called
	ready      bool            // as grpc was told last
	damper     damper
	held       bool // as onChange was told last
}

// Option changes a Health.
type Option func(*Health)

// OnChange has fn called after the status of a check or a heartbeat has changed,
// and when the process begins and ceases to be held back, which is told as a
// check by the name [FlappingCheck].
func OnChange(fn func(Result)) Option { return func(h *Health) { h.onChange = fn } }

// OnStuck has fn called when a heartbeat has become overdue, with the stack of
// the goroutine that used to beat.
func OnStuck(fn func(Stuck)) Option { return func(h *Health) { h.onStuck = fn } }

// New builds the health of a process that is starting.
func New(opts ...Option) *Health {
	h := &Health{grpc: health.NewServer(), phase: Starting, services: map[string]bool{}, more: make(chan struct{})}
	for _, o := range opts {
		o(h)
	}
	h.grpc.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	return h
}

// GRPC is the grpc.health.v1 server, Watch included; "" and every service of
// [Health.Serve] follow the readiness of the process. A service is NOT_SERVING
// as well while a check that was bound to it by [For] fails.
func (h *Health) GRPC() healthpb.HealthServer { return grpcServer{h.grpc, h} }

// Serve makes grpc.health.v1 answer for a gRPC service by its name.
func (h *Health) Serve(service string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	serves := h.servesLocked(service, h.ready)
	h.services[service] = serves
	h.grpc.SetServingStatus(service, servingStatus(serves))
	close(h.more)
	h.more = make(chan struct{})
}

func (h *Health) servesLocked(service string, ready bool) bool {
	return ready && !slices.ContainsFunc(h.checks, func(c *check) bool { return c.blocksService(service) })
}

// SetPhase moves the process to another phase of its life.
func (h *Health) SetPhase(p Phase) {
	h.mu.Lock()
	h.phase = p
	changed := h.publishLocked(time.Now())
	h.mu.Unlock()
	h.tell(changed)
}

// Phase is the phase of the process.
func (h *Health) Phase() Phase {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase
}

// Ready reports whether the process wants calls: it serves, every critical
// check is ok, no heartbeat is overdue, and it is not held back for flapping.
func (h *Health) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readyLocked(time.Now())
}

func (h *Health) readyLocked(now time.Time) bool {
	return h.phase == Serving && h.wellLocked(now) && !h.damper.holds(now)
}

// wellLocked reports whether nothing stands against serving.
func (h *Health) wellLocked(now time.Time) bool {
	return !slices.ContainsFunc(h.checks, (*check).blocks) &&
		!slices.ContainsFunc(h.heartbeats, func(b *heartbeat) bool { return b.overdueAt(now) })
}

// blockedLocked is why the checks and heartbeats stand against serving, nil
// where they do not.
func (h *Health) blockedLocked(now time.Time) error {
	var errs []error
	for _, c := range h.checks {
		if c.blocks() {
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

// publishLocked tells grpc.health.v1 what has changed, and returns what OnChange
// has to be told of holding back.
func (h *Health) publishLocked(now time.Time) (changed []Result) {
	if h.phase == Serving {
		h.damper.observe(now, h.wellLocked(now))
	}
	if held := h.damper.holds(now); held != h.held {
		h.held = held
		changed = append(changed, h.damper.result(now))
	}
	if ready := h.readyLocked(now); ready != h.ready {
		h.ready = ready
		h.grpc.SetServingStatus("", servingStatus(ready))
	}
	for name, before := range h.services {
		if serves := h.servesLocked(name, h.ready); serves != before {
			h.services[name] = serves
			h.grpc.SetServingStatus(name, servingStatus(serves))
		}
	}
	return changed
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
	// Error is why the status is not ok. While it is still ok, see
	// [FailureThreshold], it is why the last run failed.
	Error string
	// Failures is how many runs have failed in a row.
	Failures int
	// LastError is why a run failed last, however long ago, and LastErrorAt
	// when; heartbeats have neither.
	LastError   string
	LastErrorAt time.Time
	// Dependency says that the check is about another service.
	Dependency bool
	// StartupOnly says that the check is not run any more once it is ok.
	StartupOnly bool
	// Services are the gRPC services that do not serve unless the status is ok.
	Services []string
}

// Report is the health of a process at one moment.
type Report struct {
	Phase Phase
	Ready bool
	// Results are sorted by name. While the process is held back for flapping
	// there is one by the name FlappingCheck.
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
	if h.damper.holds(now) {
		r.Results = append(r.Results, h.damper.result(now))
	}
	slices.SortFunc(r.Results, func(a, b Result) int { return strings.Compare(a.Name, b.Name) })
	return r
}
