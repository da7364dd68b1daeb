// Package metrics is one private prometheus registry and the instruments that
// the framework itself keeps in it.
//
// Guarantees: nothing is registered with prometheus' default registry; labels
// are bounded, whatever callers send; a trace ID is an exemplar, never a label.
// All instruments may be used by any number of goroutines.
package metrics

import (
	"net/http"

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
	// Retries counts the attempts after the first one, by the called service
	// and the reason.
	Retries *prometheus.CounterVec
	// Rejections counts the calls that the client refused to send, by the
	// called service and the reason.
	Rejections *prometheus.CounterVec
	// RegistryErrors counts what went wrong with the registry, by reason.
	RegistryErrors *prometheus.CounterVec
	// BuildInfo is 1, with the versions of what runs.
	BuildInfo *prometheus.GaugeVec

	registryState, healthState, checkUp *prometheus.GaugeVec
}

// New builds a registry with the Go runtime's, the process' and the
// framework's metrics in it.
func New() *Metrics {
	m := &Metrics{
		registry:       prometheus.NewRegistry(),
		Server:         newCalls("server", "received"),
		Client:         newCalls("client", "made"),
		Panics:         counter("server_panics_total", "Panics of handlers that were caught.", "method"),
		Retries:        counter("client_retries_total", "Attempts after the first one of a call.", "service", "reason"),
		Rejections:     counter("client_rejections_total", "Calls that were refused before they were sent.", "service", "reason"),
		registryState:  gauge("registry_state", "1 for the state that the registration is in.", "state"),
		RegistryErrors: counter("registry_errors_total", "Failed operations and unusable entries of the registry.", "reason"),
		healthState:    gauge("health_state", "1 for the state that /health shows.", "state"),
		checkUp:        gauge("health_check_up", "1 while the check passes.", "check"),
		BuildInfo:      gauge("build_info", "1, with the versions of the service, the framework and Go.", "version", "framework", "go"),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.Server, m.Client, m.Panics, m.Retries, m.Rejections,
		m.registryState, m.RegistryErrors, m.healthState, m.checkUp, m.BuildInfo,
	)
	return m
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
