package metrics_test

import (
	"strings"
	"testing"

	"plinth.internal/metrics"
)

func TestConfig(t *testing.T) {
	m := metrics.New()
	if _, body := page(t, m, ""); !strings.Contains(body, "plinth_config_valid 1\n") {
		t.Error("the configuration of the start is not shown as valid")
	}
	m.CountReload("applied")
	m.CountReload("rejected")
	m.CountReload("rejected")
	m.SetConfigValid(false)
	_, body := page(t, m, "")
	for _, want := range []string{`plinth_config_reloads_total{outcome="applied"} 1`, `plinth_config_reloads_total{outcome="rejected"} 2`, "plinth_config_valid 0"} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("the page does not say %s", want)
		}
	}
}
