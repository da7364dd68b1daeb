package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxNames bounds the names of goroutines, which a service may make up while it
// runs; further ones share overflow.
const maxNames = 100

// lifecycleMetrics say how a stop goes, and how the service's own goroutines and
// jobs do.
type lifecycleMetrics struct {
	lateCalls, lateSeconds *prometheus.GaugeVec
	goroutineFailures      *prometheus.CounterVec
	jobRuns                *prometheus.CounterVec
	jobLeader              *prometheus.GaugeVec
	jobSuccess             *prometheus.GaugeVec

	mu    sync.Mutex
	names map[string]bool
}

func newLifecycleMetrics() *lifecycleMetrics {
	return &lifecycleMetrics{
		lateCalls:         gauge("drain_late_calls", "Calls that came although callers had been told to go elsewhere: after the draining mark, and after the withdrawal from the registry. There during a drain only.", "after"),
		lateSeconds:       gauge("drain_late_seconds", "How long such calls kept coming: the time from the mark or the withdrawal to the last one, 0 for none. There during a drain only.", "after"),
		goroutineFailures: counter("goroutine_failures_total", "How often a supervised goroutine returned an error or panicked.", "name"),
		jobRuns:           counter("job_runs_total", "Runs of a job on this instance: ok, failed, panicked, cut_short by the stop or a lost leadership, or skipped because the last run was not over.", "job", "outcome"),
		jobLeader:         gauge("job_leader", "1 while this instance is the one that runs the job.", "job"),
		jobSuccess:        gauge("job_last_success_timestamp_seconds", "When a run of the job last ended well on this instance, as Unix time.", "job"),
		names:             map[string]bool{},
	}
}

// own are these metrics, in the order of docs/metrics.md.
func (l *lifecycleMetrics) own() []prometheus.Collector {
	return []prometheus.Collector{l.lateCalls, l.lateSeconds, l.goroutineFailures, l.jobRuns, l.jobLeader, l.jobSuccess}
}

// SetLateCalls says how many calls have come after callers were told to go
// elsewhere by the given means, and for how long.
func (m *Metrics) SetLateCalls(after string, calls int64, last time.Duration) {
	m.lifecycle.lateCalls.WithLabelValues(after).Set(float64(calls))
	m.lifecycle.lateSeconds.WithLabelValues(after).Set(last.Seconds())
}

// CountGoroutineFailure counts a failure of a supervised goroutine.
func (m *Metrics) CountGoroutineFailure(name string) {
	l := m.lifecycle
	l.mu.Lock()
	if !l.names[name] && len(l.names) >= maxNames {
		name = overflow
	}
	l.names[name] = true
	l.mu.Unlock()
	l.goroutineFailures.WithLabelValues(name).Inc()
}

// CountJobRuns counts runs of a job, by their outcome.
func (m *Metrics) CountJobRuns(job, outcome string, runs int) {
	m.lifecycle.jobRuns.WithLabelValues(job, outcome).Add(float64(runs))
}

// SetJobSuccess says when a run of a job has ended well.
func (m *Metrics) SetJobSuccess(job string, at time.Time) {
	m.lifecycle.jobSuccess.WithLabelValues(job).Set(float64(at.UnixNano()) / float64(time.Second))
}

// SetJobLeader says whether this instance is the one that runs a job.
func (m *Metrics) SetJobLeader(job string, leading bool) {
	m.lifecycle.jobLeader.WithLabelValues(job).Set(number(leading))
}
