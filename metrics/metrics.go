// Package metrics is one private prometheus registry and the instruments that
// the framework itself keeps in it.
//
// Guarantees: nothing is registered with prometheus' default registry; labels
// are bounded, whatever callers send; a trace ID is an exemplar, never a label.
// All instruments may be used by any number of goroutines.
package metrics

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is the registry of one process.
type Metrics struct {
	registry *prometheus.Registry

	// Server and Client are the calls received and made.
	Server, Client *Calls
	// Panics counts the panics of handlers that were caught, by method.
	Panics *prometheus.CounterVec
	// ClientPanics counts the panics of middlewares that were caught in HTTP calls to a
	// service and streams, by the service.
	ClientPanics *prometheus.CounterVec
	// Retries counts the attempts after the first one, by the called service
	// and the reason.
	Retries *prometheus.CounterVec
	// Rejections counts the calls that the client refused to send, by the
	// called service and the reason.
	Rejections *prometheus.CounterVec
	// Bounces counts the attempts that instances of the called service handed
	// back because they were busier than the others.
	Bounces *prometheus.CounterVec
	// Hedges counts the calls that were sent a second time because they were
	// slow, by the called service and whether the second attempt "won" or
	// "lost".
	Hedges *prometheus.CounterVec
	// Ejections counts how often instances of the called service were kept from
	// calls for their results, by the reason.
	Ejections *prometheus.CounterVec
	// RouteFallbacks counts the attempts for which a routing rule left no instance,
	// by the called service, the rule, and whether they went "elsewhere" or
	// "failed".
	RouteFallbacks *prometheus.CounterVec
	// RegistryErrors counts what went wrong with the registry, by reason.
	RegistryErrors *prometheus.CounterVec
	// BuildInfo is 1, with the versions of what runs.
	BuildInfo *prometheus.GaugeVec

	// MassLapses counts how often many instances of a service were lost at
	// once, by the service.
	MassLapses *prometheus.CounterVec

	registryState, healthState, checkUp *prometheus.GaugeVec
	viewAge, instances                  *prometheus.GaugeVec
	serverBounces, faults               *prometheus.CounterVec
	config                              configMetrics
	tls                                 tlsMetrics
	limits                              limitMetrics
	auth                                authMetrics
	lifecycle                           *lifecycleMetrics
}

// New builds a registry with the Go runtime's, the process' and the
// framework's metrics in it.
func New() *Metrics {
	m := &Metrics{
		registry:       prometheus.NewRegistry(),
		Server:         newCalls("server", "received"),
		Client:         newCalls("client", "made"),
		Panics:         counter("server_panics_total", "Panics of handlers that were caught.", "method"),
		ClientPanics:   counter("client_panics_total", "Panics of middlewares that were caught in HTTP calls and streams.", "service"),
		Retries:        counter("client_retries_total", "Attempts after the first one of a call.", "service", "reason"),
		Rejections:     counter("client_rejections_total", "Calls that were not sent: the breaker held them back, or nobody could be called.", "service", "reason"),
		Bounces:        counter("client_bounces_total", "Attempts that an instance handed back, busier than the others; sent to another one at once.", "service"),
		Hedges:         counter("client_hedges_total", "Calls that were slow and sent a second time, by which attempt was answered first: the second one won or lost.", "service", "outcome"),
		Ejections:      counter("client_ejections_total", "How often an instance was kept from calls for its results.", "service", "reason"),
		RouteFallbacks: counter("client_route_fallbacks_total", "Attempts for which a routing rule left no instance, by what became of them: elsewhere or failed.", "service", "route", "outcome"),
		serverBounces:  counter("server_bounces_total", "Calls that were handed back because more were in flight than the caller allows."),
		registryState:  gauge("registry_state", "1 for the state that the registration is in.", "state"),
		RegistryErrors: counter("registry_errors_total", "Failed operations and unusable entries of the registry.", "reason"),
		MassLapses:     counter("registry_mass_lapses_total", "How often many instances of a service vanished from the registry at once.", "service"),
		viewAge:        gauge("registry_view_age_seconds", "Time since the registry last confirmed the list of a service that is called; 0 while it is well.", "service"),
		instances:      gauge("registry_instances", "Instances of a service that is called, by their state.", "service", "state"),
		healthState:    gauge("health_state", "1 for the state that /health shows.", "state"),
		checkUp:        gauge("health_check_up", "1 while the check passes.", "check"),
		BuildInfo:      gauge("build_info", "1, with the versions of the service, the framework and Go.", "version", "framework", "go"),
	}
	m.serverBounces.WithLabelValues() // else it would begin with the first one
	m.config = newConfigMetrics()
	m.tls = newTLSMetrics()
	m.limits = newLimitMetrics()
	m.auth = newAuthMetrics()
	m.faults = newFaults()
	m.lifecycle = newLifecycleMetrics()
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.own()...)
	return m
}

// own are the framework's metrics, in the order of docs/metrics.md.
func (m *Metrics) own() []prometheus.Collector {
	return append([]prometheus.Collector{
		m.Server, m.Client, m.Panics, m.serverBounces, m.faults, m.ClientPanics, m.Retries, m.Rejections, m.Bounces, m.Hedges, m.Ejections, m.RouteFallbacks,
		m.registryState, m.RegistryErrors, m.MassLapses, m.viewAge, m.instances, m.healthState, m.checkUp, m.BuildInfo,
	}, slices.Concat(m.config.own(), m.tls.own(), m.limits.own(), m.auth.own(), m.lifecycle.own())...)
}

// Registerer is where a service registers metrics of its own.
func (m *Metrics) Registerer() prometheus.Registerer { return m.registry }

// Gatherer reads all metrics, for tests and for other exporters.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handler serves the metrics, as OpenMetrics with exemplars to those who ask
// for it.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, Registry: m.registry})
}

// SetHealth makes one of the states that /health can show 1, and the others 0.
func (m *Metrics) SetHealth(current string, states ...string) {
	setState(m.healthState, current, states)
}

// SetRegistry makes one of the states of the registration 1, and the others 0.
func (m *Metrics) SetRegistry(current string, states ...string) {
	setState(m.registryState, current, states)
}

// SetCheck says whether the health check of that name passes.
func (m *Metrics) SetCheck(name string, up bool) { m.checkUp.WithLabelValues(name).Set(number(up)) }

// SetView says how old the list of a called service is, and how many instances
// in each state it holds.
func (m *Metrics) SetView(service string, age time.Duration, instances map[string]int) {
	m.viewAge.WithLabelValues(service).Set(max(age, 0).Seconds())
	for state, n := range instances {
		m.instances.WithLabelValues(service, state).Set(float64(n))
	}
}

// CountServerBounce counts a call that was handed back.
func (m *Metrics) CountServerBounce() { m.serverBounces.WithLabelValues().Inc() }

func setState(vec *prometheus.GaugeVec, current string, states []string) {
	for _, s := range states {
		vec.WithLabelValues(s).Set(number(s == current))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

const namespace = "plinth"

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}
