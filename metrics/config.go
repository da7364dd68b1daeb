package metrics

import "github.com/prometheus/client_golang/prometheus"

// configMetrics say how changes of the configuration went.
type configMetrics struct {
	reloads  *prometheus.CounterVec
	valid    *prometheus.GaugeVec
	revision *prometheus.GaugeVec
}

func newConfigMetrics() configMetrics {
	c := configMetrics{
		reloads:  counter("config_reloads_total", "Changes of the configuration file and the central documents, by what became of them: applied or rejected; fallback for a start without the documents as they are.", "outcome"),
		valid:    gauge("config_valid", "0 while the configuration file or a central document holds what cannot be used or cannot be had, and the last good values stay in use; else 1."),
		revision: gauge("config_revision", "Revision of the central document in use, 0 for none: that of all services (default) and the service's own.", "document"),
	}
	c.valid.WithLabelValues().Set(1) // else there would be no start
	return c
}

// own are these metrics, in the order of docs/metrics.md.
func (c configMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{c.reloads, c.valid, c.revision}
}

// CountReload counts a change of the configuration, by its outcome.
func (m *Metrics) CountReload(outcome string) { m.config.reloads.WithLabelValues(outcome).Inc() }

// SetConfigRevision says which revision of a central document is in use; the
// document is "default" or "service".
func (m *Metrics) SetConfigRevision(document string, revision int64) {
	m.config.revision.WithLabelValues(document).Set(float64(revision))
}

// SetConfigValid says whether what the file and the central documents hold is in use.
func (m *Metrics) SetConfigValid(valid bool) { m.config.valid.WithLabelValues().Set(number(valid)) }
