package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tlsMetrics say how it stands with certificates.
type tlsMetrics struct {
	expiry   *prometheus.GaugeVec
	reloads  *prometheus.CounterVec
	refusals *prometheus.CounterVec
	plain    *prometheus.CounterVec
}

func newTLSMetrics() tlsMetrics {
	return tlsMetrics{
		expiry:   gauge("tls_certificate_expiry_timestamp_seconds", "When the certificate in use expires, as Unix time: that of the server, and the first of those that calls are made with.", "side"),
		reloads:  counter("tls_reloads_total", "Changes of files for TLS, by what became of them: applied or rejected.", "side", "outcome"),
		refusals: counter("tls_refusals_total", "Connections of callers that were refused for TLS; counted 10 s late at most.", "reason"),
		plain:    counter("tls_plain_connections_total", "Connections without TLS that were taken in permissive mode, by the listener; counted 10 s late at most.", "listener"),
	}
}

// own are these metrics, in the order of docs/metrics.md.
func (t tlsMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{t.expiry, t.reloads, t.refusals, t.plain}
}

// SetCertificate says when a certificate expires; side is server or client.
func (m *Metrics) SetCertificate(side string, notAfter time.Time) {
	m.tls.expiry.WithLabelValues(side).Set(float64(notAfter.Unix()))
}

// CountTLSReload counts a change of files, by its outcome.
func (m *Metrics) CountTLSReload(side, outcome string) {
	m.tls.reloads.WithLabelValues(side, outcome).Inc()
}

// CountTLSPlain counts callers that were served without TLS; listener is grpc or
// http.
func (m *Metrics) CountTLSPlain(listener string, times int) {
	m.tls.plain.WithLabelValues(listener).Add(float64(times))
}

// CountTLSRefusals counts callers that got no connection.
func (m *Metrics) CountTLSRefusals(reason string, times int) {
	m.tls.refusals.WithLabelValues(reason).Add(float64(times))
}
