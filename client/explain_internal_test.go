package client

import (
	"testing"
	"time"

	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
)

// TestSettingsExplainedAreThoseInUse: what is not valid is not used, and not shown.
func TestSettingsExplainedAreThoseInUse(t *testing.T) {
	bad := Settings{
		Timeout: time.Second, AttemptTimeout: -5, Balancer: "fast", Retry: retry.Policy{MaxAttempts: -1}, Hedge: retry.HedgePolicy{Enabled: true, Delay: -1},
		Breaker: breaker.Config{Policy: "none"}, Ejection: outlier.Config{Consecutive: -1},
	}
	if bad.Hedge.Validate() == nil || bad.Ejection.Validate() == nil {
		t.Fatal("the settings are not as bad as they should be")
	}
	if got, want := explainSettings("m", bad), explainSettings("m", Settings{Timeout: time.Second}); got != want {
		t.Errorf("shown are %+v, want %+v", got, want)
	}
	good := Settings{AttemptTimeout: time.Second, Balancer: "random", Breaker: breaker.Config{Policy: "off"}, Ejection: outlier.Config{Off: true}}
	if got := explainSettings("m", good); got.AttemptTimeoutMS != 1000 || got.Balancer != "random" || got.Breaker != "off" || got.Ejection {
		t.Errorf("shown are %+v", got)
	}
}
