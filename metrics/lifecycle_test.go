package metrics_test

import (
	"fmt"
	"testing"
	"time"

	"plinth.internal/metrics"
)

func TestLifecycleMetrics(t *testing.T) {
	m := metrics.New()
	m.SetLateCalls("withdrawal", 3, 1500*time.Millisecond)
	m.CountJobRuns("reports", "failed", 2)
	m.CountJobRuns("reports", "ok", 1)
	m.SetJobSuccess("reports", time.Unix(200, 5e8))
	m.SetJobLeader("reports", true)
	for name, want := range map[string]float64{
		"plinth_drain_late_calls":                   3,
		"plinth_drain_late_seconds":                 1.5,
		"plinth_job_leader":                         1,
		"plinth_job_last_success_timestamp_seconds": 200.5,
	} {
		all := series(t, m, name)
		if len(all) != 1 {
			t.Errorf("%s has %d series, want 1", name, len(all))
		}
		for labels, s := range all {
			if got := s.GetGauge().GetValue(); got != want {
				t.Errorf("%s{%s} = %v, want %v", name, labels, got, want)
			}
		}
	}
	runs := series(t, m, "plinth_job_runs_total")
	for outcome, want := range map[string]float64{"ok": 1, "failed": 2} {
		if got := runs["job=reports,outcome="+outcome].GetCounter().GetValue(); got != want {
			t.Errorf("%v runs were %s, want %v", got, outcome, want)
		}
	}
}

// TestGoroutineNamesAreBounded: a service may make names up while it runs.
func TestGoroutineNamesAreBounded(t *testing.T) {
	const bound = 100
	m := metrics.New()
	for i := range 2 * bound {
		m.CountGoroutineFailure(fmt.Sprint("worker-", i))
	}
	m.CountGoroutineFailure("worker-0")
	all := series(t, m, "plinth_goroutine_failures_total")
	if len(all) != bound+1 {
		t.Errorf("%d series, want %d and one for the rest", len(all), bound)
	}
	if got := all["name=worker-0"].GetCounter().GetValue(); got != 2 {
		t.Errorf("worker-0 failed %v times, want 2", got)
	}
	if got := all["name=other"].GetCounter().GetValue(); got != bound {
		t.Errorf("others failed %v times, want %d", got, bound)
	}
}
