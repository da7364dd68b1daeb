package metrics

import "github.com/prometheus/client_golang/prometheus"

// newFaults counts what is done to calls on purpose.
func newFaults() *prometheus.CounterVec {
	return counter("server_faults_total", "Faults that were injected on purpose, by the rule (header for those that the request asked for) and the kind: delay, error, abort or hang.", "rule", "fault")
}

// CountFault counts a fault that is injected; kind is delay, error, abort or hang.
func (m *Metrics) CountFault(rule, kind string) { m.faults.WithLabelValues(rule, kind).Inc() }
