package client

import (
	"fmt"
	"slices"
	"time"

	"plinth.internal/client/breaker"
)

// BreakerExplained is the reading of a breaker.
type BreakerExplained struct {
	// Method is the full name of the method that has the breaker for its own,
	// "" for the one that all others share.
	Method string `json:"method"`
	// Policy is adaptive, classic or off; Phase is closed, throttling, open or
	// half_open. Why says in a sentence what that means for calls.
	Policy string `json:"policy"`
	Phase  string `json:"phase"`
	Why    string `json:"why"`
	// Sent is the number of attempts within WindowS seconds, Failed how many
	// of them count against the service: in the last ones, or once a classic
	// breaker has opened, in those before that. Reject is the probability that the
	// next one is held back.
	Sent    int64   `json:"sent"`
	Failed  int64   `json:"failed"`
	WindowS float64 `json:"window_s"`
	Reject  float64 `json:"reject"`
	// Since is when a classic breaker entered its phase, Until when an open one
	// lets a trial pass, and InS in how many seconds.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	InS   float64   `json:"in_s,omitempty"`
	// Trials is how many attempts a half-open breaker has let pass, of at most
	// MaxTrials.
	Trials    int `json:"trials,omitempty"`
	MaxTrials int `json:"max_trials,omitempty"`
}

func explainBreaker(now time.Time, method string, s breaker.State) BreakerExplained {
	e := BreakerExplained{
		Method: method, Policy: s.Policy, Phase: s.Phase.String(), Sent: s.Sent, Failed: s.Failed,
		WindowS: seconds(breaker.Window), Reject: s.Reject, Since: s.Since, Until: s.Until,
	}
	if !s.Until.IsZero() {
		e.InS = seconds(max(s.Until.Sub(now), 0))
	}
	if s.Phase == breaker.HalfOpen {
		e.Trials, e.MaxTrials = s.Trials, s.MaxTrials
	}
	e.Why = e.why()
	return e
}

// why is the sentence about a breaker.
func (e *BreakerExplained) why() string {
	of := ""
	if e.Method != "" {
		of = " of " + e.Method
	}
	switch e.Phase {
	case breaker.Throttling.String():
		return fmt.Sprintf("the breaker holds back %.0f %% of the calls%s: %d of %d attempts in %s were refused", 100*e.Reject, of, e.Failed, e.Sent, shortMS(1000*e.WindowS))
	case breaker.Open.String():
		return fmt.Sprintf("the breaker holds the calls%s back: it opened at %s, as %d of %d attempts had failed, and tries again %s", of, clock(e.Since), e.Failed, e.Sent, in(e.InS))
	case breaker.HalfOpen.String():
		return fmt.Sprintf("the breaker lets %d calls%s through to try the service, of which %d are sent: it had opened as %d of %d attempts had failed", e.MaxTrials, of, e.Trials, e.Failed, e.Sent)
	}
	if e.Policy == breaker.PolicyOff {
		return "the breaker" + of + " is off"
	}
	return fmt.Sprintf("the breaker%s lets all calls through: %d of %d attempts in %s count against the service", of, e.Failed, e.Sent, shortMS(1000*e.WindowS))
}

// holds tells whether the breaker lets no call through.
func (e *BreakerExplained) holds() bool {
	return e.Phase == breaker.Open.String() || e.Phase == breaker.HalfOpen.String() && e.Reject == 1
}

// held tells whether breakers let no call of a service through. One that nothing
// was sent through says nothing: it may be nobody's.
func held(all []BreakerExplained) bool {
	passes := func(e BreakerExplained) bool { return !e.holds() && e.Sent > 0 }
	return slices.ContainsFunc(all, func(e BreakerExplained) bool { return e.holds() }) && !slices.ContainsFunc(all, passes)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" }
