package metrics

import "github.com/prometheus/client_golang/prometheus"

// authMetrics say who was not let in, and how it stands with the keys of tokens.
type authMetrics struct {
	refusals *prometheus.CounterVec
	keys     *prometheus.CounterVec
}

func newAuthMetrics() authMetrics {
	return authMetrics{
		refusals: counter("server_auth_refusals_total", "Calls received that were refused for who makes them, by the reason.", "reason"),
		keys:     counter("auth_keys_total", "Changes of the keys of an issuer of tokens, and beginnings of failures to get them, by outcome: applied or rejected.", "issuer", "outcome"),
	}
}

// own are these metrics, in the order of docs/metrics.md.
func (a authMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{a.refusals, a.keys}
}

// CountAuthRefusal counts a call that was refused for who makes it.
func (m *Metrics) CountAuthRefusal(reason string) {
	m.auth.refusals.WithLabelValues(reason).Inc()
}

// CountAuthKeys counts news of an issuer's keys, by their outcome.
func (m *Metrics) CountAuthKeys(issuer, outcome string) {
	m.auth.keys.WithLabelValues(issuer, outcome).Inc()
}
