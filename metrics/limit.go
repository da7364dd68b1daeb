package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// limitMetrics say what the server turns away, and from what on.
type limitMetrics struct {
	rejected               *prometheus.CounterVec
	limit, inFlight, usual *prometheus.GaugeVec
}

func newLimitMetrics() limitMetrics {
	return limitMetrics{
		rejected: counter("server_rejected_total", "Calls that were turned away before their handler, by reason: the limit (in_flight, criticality, caller_share), a rate (rate_method, rate_caller), or nobody who waits (expired, canceled).", "method", "reason"),
		limit:    gauge("server_limit", "Calls in flight from which on calls are turned away; 0 = none."),
		inFlight: gauge("server_limited_calls_in_flight", "Calls in flight as the limit counts them: without streams, health checks and the bodies of HTTP responses."),
		usual:    gauge("server_usual_latency_seconds", "Mean latency of calls when all is well, as the limit has learned it; 0 = not known yet."),
	}
}

// own are these metrics, in the order of docs/metrics.md.
func (l limitMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{l.rejected, l.limit, l.inFlight, l.usual}
}

// CountServerRejection counts a call that was turned away before its handler.
func (m *Metrics) CountServerRejection(method, reason string) {
	m.limits.rejected.WithLabelValues(method, reason).Inc()
}

// SetServerLimit says how many calls may be in flight and are, and how long they
// usually take.
func (m *Metrics) SetServerLimit(limit, inFlight int64, usual time.Duration) {
	m.limits.limit.WithLabelValues().Set(float64(limit))
	m.limits.inFlight.WithLabelValues().Set(float64(inFlight))
	m.limits.usual.WithLabelValues().Set(usual.Seconds())
}
