package framework

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/internal/errtext"
	"plinth.internal/registry"
	"plinth.internal/server"
)

// HealthDocument is what /health answers.
type HealthDocument struct {
	// Status is ok, degraded (ready, but something is wrong) or down.
	Status   string         `json:"status"`
	Service  string         `json:"service"`
	Version  string         `json:"version"`
	Instance string         `json:"instance"`
	Phase    string         `json:"phase"`
	Time     string         `json:"time"`
	UptimeS  float64        `json:"uptime_s"`
	Registry RegistryHealth `json:"registry"`
	Checks   []CheckHealth  `json:"checks"`
}

// RegistryHealth is the registration in a [HealthDocument].
type RegistryHealth struct {
	Kind string `json:"kind"`
	// State is registering, registered, lost, withdrawn or off.
	State     string  `json:"state"`
	Since     string  `json:"since"`
	LeaseTTLS float64 `json:"lease_ttl_s"`
	// Error is why the state is not registered, or, where it is, why it will
	// not be for long: the registry does not answer.
	Error string `json:"error"`
	// Override is what an operator wants of the instance, nil for nothing.
	Override *OverrideHealth `json:"override,omitempty"`
}

// CheckHealth is one check or heartbeat in a [HealthDocument].
type CheckHealth struct {
	Name      string  `json:"name"`
	Status    string  `json:"status"`
	LatencyMS float64 `json:"latency_ms"`
	Critical  bool    `json:"critical"`
	CheckedAt string  `json:"checked_at"`
	// Error is why the status is not ok; with failures below the check's
	// threshold the status is still ok.
	Error string `json:"error"`
	// Failures is how many runs have failed in a row.
	Failures int `json:"failures,omitempty"`
	// LastError is why a run failed last, however long ago.
	LastError   string `json:"last_error,omitempty"`
	LastErrorAt string `json:"last_error_at,omitempty"`
	// Dependency says that the check is about another service.
	Dependency bool `json:"dependency,omitempty"`
	// StartupOnly says that the check is not run any more once it is ok.
	StartupOnly bool `json:"startup_only,omitempty"`
	// Services are the gRPC services that do not serve while it fails.
	Services []string `json:"services,omitempty"`
}

// The statuses of a [HealthDocument].
const (
	HealthOK       = "ok"
	HealthDegraded = "degraded"
	HealthDown     = "down"
)

// Health is what /health answers at this moment. It waits for nothing.
func (a *App) Health() HealthDocument { return a.healthOf(a.health.Report()) }

// healthOf is the document of one look at the checks.
func (a *App) healthOf(report health.Report) HealthDocument {
	now := time.Now()
	status := a.registry.Status()
	doc := HealthDocument{
		Status: HealthOK, Service: a.name, Version: a.settings.Service.Version, Instance: a.instance.ID,
		Phase: string(report.Phase), Time: stamp(now), UptimeS: now.Sub(a.started).Seconds(),
		Registry: RegistryHealth{
			Kind: status.Kind, State: string(status.State), Since: stamp(status.Since),
			LeaseTTLS: status.TTL.Seconds(), Error: text(status.Err), Override: overrideHealth(status.Override),
		},
		Checks: []CheckHealth{},
	}
	for _, r := range report.Results {
		doc.Checks = append(doc.Checks, checkHealth(r))
		if r.Status != health.StatusOK {
			doc.Status = HealthDegraded
		}
	}
	if a.followsConfig() {
		c := a.configHealth()
		doc.Checks = append(doc.Checks, c)
		if c.Status != HealthOK {
			doc.Status = HealthDegraded
		}
	}
	if c, ok := a.tlsHealth(); ok {
		doc.Checks = append(doc.Checks, c)
		if c.Status != HealthOK {
			doc.Status = HealthDegraded
		}
	}
	if c, ok := a.faultsHealth(); ok {
		doc.Checks = append(doc.Checks, c)
		if c.Status != HealthOK {
			doc.Status = HealthDegraded
		}
	}
	if status.State == registry.Lost || status.State == registry.Registering || status.Err != nil {
		doc.Status = HealthDegraded
	}
	if !report.Ready {
		doc.Status = HealthDown
	}
	return doc
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// text is an error as a page shows it: whoever made it may not have thought of the
// passwords in the URLs that it names, nor of what becomes of its text where it is a
// nil pointer.
func text(err error) string { return config.Mask(errtext.Of(err)) }

// adminPages are what the admin listener shows beside the profiler.
func (a *App) adminPages() map[string]http.Handler {
	probe := func(well func(health.Report) bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.writeHealth(w, r, well) })
	}
	ready := func(r health.Report) bool { return r.Ready }
	return map[string]http.Handler{
		"/health":           probe(ready),
		"/health/ready":     probe(ready),
		"/health/live":      a.livePage(),
		"/health/startup":   probe(func(r health.Report) bool { return r.Phase != health.Starting }),
		"/metrics":          a.metricsPage(),
		"/info":             server.View("info", func(*http.Request) any { return a.info() }),
		"/debug/clients":    a.clientsPage(),
		"/debug/lifecycle":  a.lifecyclePage(),
		"/debug/heartbeats": server.View("heartbeats", func(*http.Request) any { return a.heartbeats() }),
		"/debug/config":     server.View("configuration", func(*http.Request) any { return a.configuration() }),
		"/debug/lint":       server.View("lint", func(*http.Request) any { return a.Lint() }),
		"/debug/limit":      server.View("limit", func(*http.Request) any { return a.Limit() }),
		"GET /debug/log":    http.HandlerFunc(a.logLevel),
		"PUT /debug/log":    http.HandlerFunc(a.putLogLevel),
	}
}

// writeHealth answers with a code and a document that are of the same moment.
func (a *App) writeHealth(w http.ResponseWriter, r *http.Request, well func(health.Report) bool) {
	report := a.health.Report()
	code := http.StatusOK
	if !well(report) {
		code = http.StatusServiceUnavailable
	}
	server.WriteView(w, r, code, a.name+" health", a.healthOf(report))
}

// metricsPage brings the gauges of states up to date before they are read.
func (a *App) metricsPage() http.Handler {
	page := a.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc := a.Health()
		a.metrics.SetHealth(doc.Status, HealthOK, HealthDegraded, HealthDown)
		a.metrics.SetRegistry(doc.Registry.State, string(registry.Off), string(registry.Registering),
			string(registry.Registered), string(registry.Lost), string(registry.Withdrawn))
		a.measureConfig()
		a.measureViews(time.Now())
		a.measureTLS()
		a.measureDrain()
		a.measureJobs()
		a.measureLimit()
		a.measureChecks(doc.Checks)
		page.ServeHTTP(w, r)
	})
}

func (a *App) info() any {
	return map[string]any{
		"service": a.name, "version": a.settings.Service.Version, "zone": a.settings.Service.Zone,
		"instance": a.instance.ID, "framework": frameworkVersion(), "go": goVersion(), "pid": os.Getpid(),
		"started": stamp(a.started), "endpoints": a.Endpoints(), "advertised": a.Instance().Endpoints,
	}
}

func (a *App) logLevel(w http.ResponseWriter, r *http.Request) {
	server.WriteView(w, r, http.StatusOK, "log level", map[string]string{"level": a.log.Level()})
}

// putLogLevel takes {"level":"debug"}, or the level by itself, in quotes or without.
func (a *App) putLogLevel(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
	if err != nil {
		http.Error(w, `want a body such as {"level":"debug"}`, http.StatusBadRequest)
		return
	}
	var object struct {
		Level string `json:"level"`
	}
	level := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &object) == nil {
		level = object.Level
	} else {
		_ = json.Unmarshal(body, &level) // else it has no quotes
	}
	if level == "" {
		http.Error(w, `want a body such as {"level":"debug"}`, http.StatusBadRequest)
		return
	}
	if err := a.log.SetLevel(level); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.logLevel(w, r)
}
