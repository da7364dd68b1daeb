package framework

import (
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/server"
)

// CheckDependency adds a check of another service to /health, see [health.GRPC]
// and [health.HTTP]. While it fails the service is degraded and stays ready,
// unless health.Critical() is among the options: otherwise the outage of one
// service would take all those before it out of rotation. For a function of
// one's own, [Service.Check] with health.Dependency() does the same.
func (s *Service) CheckDependency(name string, r health.Remote, opts ...health.CheckOption) {
	if isReserved(name) {
		s.app.note(reserved(name))
		return
	}
	s.app.note(s.app.health.AddDependency(name, r, opts...))
}

// newHealth builds the health of the process, which tells its events.
func (a *App) newHealth() *health.Health {
	return health.New(
		health.OnChange(func(r health.Result) { a.emit(CheckChanged{r}) }),
		health.OnStuck(func(s health.Stuck) { a.emit(HeartbeatStuck{s}) }),
	)
}

// checkHealth is a result as it stands in a [HealthDocument].
func checkHealth(r health.Result) CheckHealth {
	return CheckHealth{
		Name: r.Name, Status: string(r.Status), Critical: r.Critical, Error: config.Mask(r.Error),
		LatencyMS: milliseconds(r.Latency), CheckedAt: stamp(r.CheckedAt),
		Failures: r.Failures, LastError: config.Mask(r.LastError), LastErrorAt: stamp(r.LastErrorAt),
		Dependency: r.Dependency, StartupOnly: r.StartupOnly, Services: r.Services,
	}
}

// measureChecks brings the gauges of checks up to date. What holds the service
// back for flapping is in the document only while it does.
func (a *App) measureChecks(checks []CheckHealth) {
	for _, c := range checks {
		a.metrics.SetCheck(c.Name, c.Status == HealthOK)
	}
	if !slices.ContainsFunc(checks, func(c CheckHealth) bool { return c.Name == health.FlappingCheck }) {
		a.metrics.SetCheck(health.FlappingCheck, true)
	}
}

// LiveDocument is what /health/live answers.
type LiveDocument struct {
	// Status is always ok: that there is an answer is the answer.
	Status   string  `json:"status"`
	Service  string  `json:"service"`
	Instance string  `json:"instance"`
	Time     string  `json:"time"`
	UptimeS  float64 `json:"uptime_s"`
}

// livePage looks at nothing that could wait or fail, least of all at checks: a
// platform restarts what is not alive, and a restart heals no dependency.
func (a *App) livePage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		server.WriteView(w, r, http.StatusOK, a.name+" is alive", LiveDocument{
			Status: HealthOK, Service: a.name, Instance: a.instance.ID, Time: stamp(now), UptimeS: now.Sub(a.started).Seconds(),
		})
	})
}

// HeartbeatDocument is one heartbeat on /debug/heartbeats.
type HeartbeatDocument struct {
	Name   string  `json:"name"`
	PauseS float64 `json:"pause_s"` // the longest one that is allowed
	Beat   string  `json:"beat"`    // the last one
	// Overdue says that it is too long ago: the service is not ready.
	Overdue bool `json:"overdue"`
	// Function is where the beats come from, "" where there was none yet.
	Function string `json:"function"`
	// Stuck is the last time that it was overdue, nil if it never was.
	Stuck *StuckDocument `json:"stuck,omitempty"`
}

// StuckDocument is a heartbeat that became overdue.
type StuckDocument struct {
	Since    string `json:"since"` // the last beat
	Found    string `json:"found"`
	Function string `json:"function"`
	// Stack is the stack of the goroutine that used to beat, as it was then.
	Stack string `json:"stack"`
}

// heartbeats is what /debug/heartbeats answers.
func (a *App) heartbeats() []HeartbeatDocument {
	docs := []HeartbeatDocument{}
	for _, b := range a.health.Heartbeats() {
		d := HeartbeatDocument{
			Name: b.Name, PauseS: b.Pause.Seconds(), Beat: stamp(b.Beat), Overdue: b.Overdue, Function: b.Function,
		}
		if s := b.Stuck; s != nil {
			d.Stuck = &StuckDocument{Since: stamp(s.Since), Found: stamp(s.Found), Function: s.Function, Stack: s.Stack}
		}
		docs = append(docs, d)
	}
	return docs
}

func fieldsOfCheck(r health.Result) []zap.Field {
	fields := []zap.Field{
		zap.String("check", r.Name), zap.String("status", string(r.Status)),
		zap.Bool("critical", r.Critical), zap.String("error", r.Error),
	}
	if len(r.Services) > 0 {
		fields = append(fields, zap.Strings("services", r.Services))
	}
	return fields
}

func fieldsOfStuck(s health.Stuck) []zap.Field {
	return []zap.Field{
		zap.String("heartbeat", s.Name), zap.Duration("allowed", s.Pause), zap.Time("since", s.Since),
		zap.String("function", s.Function), zap.String("stack", s.Stack),
	}
}
