package metrics

import "github.com/prometheus/client_golang/prometheus"

// configMetrics say how changes of the configuration went.
type configMetrics struct {
	reloads *prometheus.CounterVec
	valid   *prometheus.GaugeVec
}

func newConfigMetrics() configMetrics {
	c := configMetrics{
		reloads: counter("config_reloads_total", "Changes of the configuration file, by what became of them: applied or rejected.", "outcome"),
		valid:   gauge("config_valid", "0 while the configuration file holds what cannot be used, and the last good values stay in use; else 1."),
	}
	c.valid.WithLabelValues().Set(1) // else there would be no start
	return c
}

// own are these metrics, in the order of docs/metrics.md.
func (c configMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{c.reloads, c.valid}
}

// CountReload counts a change of the configuration, by its outcome.
func (m *Metrics) CountReload(outcome string) { m.config.reloads.WithLabelValues(outcome).Inc() }

// SetConfigValid says whether what the configuration file holds is in use.
func (m *Metrics) SetConfigValid(valid bool) { m.config.valid.WithLabelValues().Set(number(valid)) }
