package client

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
)

func TestWhyOfABreaker(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		method string
		s      breaker.State
		want   string
	}{
		{"", breaker.State{Policy: breaker.PolicyAdaptive, Sent: 20, Failed: 1}, "the breaker lets all calls through: 1 of 20 attempts in 10s count against the service"},
		{"a.B/C", breaker.State{Policy: breaker.PolicyOff}, "the breaker of a.B/C is off"},
		{
			"", breaker.State{Policy: breaker.PolicyAdaptive, Phase: breaker.Throttling, Sent: 10, Failed: 8, Reject: 0.4},
			"the breaker holds back 40 % of the calls: 8 of 10 attempts in 10s were refused",
		},
		{
			"a.B/C", breaker.State{Policy: breaker.PolicyClassic, Phase: breaker.Open, Sent: 20, Failed: 20, Reject: 1, Since: now.Add(-16 * time.Second), Until: now.Add(14 * time.Second)},
			"the breaker holds the calls of a.B/C back: it opened at 03:03:49 UTC, as 20 of 20 attempts had failed, and tries again in 14s",
		},
		{
			"", breaker.State{Policy: breaker.PolicyClassic, Phase: breaker.HalfOpen, Sent: 20, Failed: 11, Since: now, Trials: 1, MaxTrials: 3},
			"the breaker lets 3 calls through to try the service, of which 1 are sent: it had opened as 11 of 20 attempts had failed",
		},
	} {
		if got := explainBreaker(now, tt.method, tt.s).Why; got != tt.want {
			t.Errorf("it says\n%q, want\n%q", got, tt.want)
		}
	}
}

// TestHeld: calls are held back only where no breaker lets any through.
func TestHeld(t *testing.T) {
	open, closed := BreakerExplained{Phase: "open", Sent: 20}, BreakerExplained{Phase: "closed", Sent: 20}
	unused, tried := BreakerExplained{Phase: "closed"}, BreakerExplained{Phase: "half_open", Sent: 20}
	spent := tried
	spent.Reject = 1
	for _, tt := range []struct {
		name string
		all  []BreakerExplained
		want bool
	}{
		{"none", nil, false},
		{"open", []BreakerExplained{open}, true},
		{"open, but for methods with one of their own", []BreakerExplained{open, closed}, false},
		{"all methods have one of their own", []BreakerExplained{unused, open}, true},
		{"half open", []BreakerExplained{tried}, false},
		{"half open, all trials in use", []BreakerExplained{spent}, true},
		{"closed", []BreakerExplained{closed}, false},
	} {
		if got := held(tt.all); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestExplainHeldBack: the rows do not make up another reason.
func TestExplainHeldBack(t *testing.T) {
	f := &fleetExplained{policy: balancer.NameAdaptive, wanting: 2, compared: 2, up: 2, held: true}
	e := InstanceExplained{Protocol: "grpc", Zone: "z2", Warm: 1, Cost: CostExplained{ZoneFactor: 1.3}, Connection: ConnectionExplained{State: connectionReady, Health: healthServing}}
	e.verdict = f.judge(&e)
	if got := f.why(time.Now(), &e); got != "not called: the breaker holds back the calls to all instances" {
		t.Errorf("the row says %q", got)
	}
	s := ServiceExplained{RetryTokens: 20, Registry: ListExplained{Source: "registry"}, Protocols: []ProtocolExplained{{Protocol: "grpc"}}, Instances: []InstanceExplained{e, e}}
	if got := s.why(true); got != "0 of 2 instances take calls over grpc (2 held back by the breaker)" {
		t.Errorf("the service: %q", got)
	}
	e.Ejection = &EjectionExplained{Now: true, KeptOut: true}
	if got := f.judge(&e); got != verdictEjected {
		t.Errorf("one that is ejected as well is judged as %d", got)
	}
}

// TestBreakersOfAllMethods: they are there where the service's settings give every
// method one of its own.
func TestBreakersOfAllMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := Settings{OwnBreaker: true, Breaker: breaker.Config{Policy: breaker.PolicyClassic}}
		s := &service{client: &Client{options: options{settings: func(string, string) Settings { return set }}}, name: "a"}
		m := &methodState{}
		s.methods.known.Store(&map[methodKey]*methodState{{"a.B", "C"}: m})
		b := m.own.breaker(set.Breaker)
		for range 20 {
			if permit, err := b.Allow(time.Now()); err == nil {
				b.Done(time.Now(), permit, breaker.Failed)
			}
		}
		<-time.After(16 * time.Second)
		var e ServiceExplained
		s.explainMethods(time.Now(), &e)
		if len(e.Breakers) != 1 || !held(e.Breakers) || e.Breakers[0].InS != 14 || !strings.HasSuffix(e.Breakers[0].Why, "tries again in 14s") {
			t.Errorf("the breakers are %+v", e.Breakers)
		}
	})
}
