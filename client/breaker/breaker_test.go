package breaker

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		config Config
		want   string // part of the error, "" = valid
	}{
		{Config{}, ""},
		{Config{}.WithDefaults(), ""},
		{Config{Policy: PolicyOff}, ""},
		{Config{Policy: PolicyClassic, FailureShare: 0.9, MinCalls: 1, OpenFor: time.Second, Trials: 1}, ""},
		{Config{Policy: "x"}, `Breaker.Policy to "x": must be one of ["adaptive" "classic" "off"]`},
		{Config{FailureShare: 1}, "Breaker.FailureShare to 1:"},
		{Config{FailureShare: -0.1}, "Breaker.FailureShare to -0.1:"},
		{Config{FailureShare: math.NaN()}, "Breaker.FailureShare to NaN:"},
		{Config{MinCalls: -1}, "Breaker.MinCalls to -1:"},
		{Config{OpenFor: -1}, "Breaker.OpenFor to -1ns:"},
		{Config{Trials: -1}, "Breaker.Trials to -1:"},
		{Config{Trials: 1001}, "from 1 to 1000"},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %q", tt.config, err, tt.want)
		}
	}
	if !slices.IsSorted(Policies()) {
		t.Errorf("the policies are not sorted: %q", Policies())
	}
}

func TestNew(t *testing.T) {
	tests := []struct {
		config Config
		want   string
	}{
		{Config{}, PolicyAdaptive},
		{Config{Policy: PolicyAdaptive}, PolicyAdaptive},
		{Config{Policy: PolicyClassic}, PolicyClassic},
		{Config{Policy: PolicyOff}, PolicyOff},
		{Config{Policy: "unknown"}, PolicyAdaptive},
		{Config{Policy: PolicyClassic, Trials: -1}, PolicyAdaptive},
	}
	for _, tt := range tests {
		if got := New(tt.config, t0, nil).State(t0); got.Policy != tt.want || got.Phase != Closed {
			t.Errorf("%+v: state is %+v, want a closed %s", tt.config, got, tt.want)
		}
	}
}

func TestOff(t *testing.T) {
	b := New(Config{Policy: PolicyOff}, t0, always)
	if got := send(b, 1000, Refused); got != 1000 {
		t.Errorf("%d of 1000 were sent", got)
	}
}

func TestAdaptiveRejection(t *testing.T) {
	b := New(Config{}, t0, always)
	for range 50 {
		if p, err := b.Allow(t0); err == nil {
			b.Done(t0, p, Refused)
		}
	}
	_, err := b.Allow(t0)
	if want := "11 of the 11 attempts of the last 10s were refused, so 8% are not sent"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
	if got := b.State(t0); got.Phase != Throttling {
		t.Errorf("state is %+v, want throttling", got)
	}
}

// TestForeignPermit: a permit may outlive the breaker that gave it, when the
// policy changes at run time.
func TestForeignPermit(t *testing.T) {
	configs := []Config{{Policy: PolicyAdaptive}, {Policy: PolicyClassic}, {Policy: PolicyOff}}
	for _, from := range configs {
		for _, to := range configs {
			p, err := New(from, t0, nil).Allow(t0)
			if err != nil {
				t.Fatal(err)
			}
			b := New(to, t0, nil)
			for _, outcome := range []Outcome{Accepted, Failed} {
				b.Done(t0, p, outcome)
			}
			if got := b.State(t0); got.Phase != Closed {
				t.Errorf("%s to %s left %+v", from.Policy, to.Policy, got)
			}
		}
	}
}

func TestPhaseString(t *testing.T) {
	for p, want := range map[Phase]string{Closed: "closed", Throttling: "throttling", Open: "open", HalfOpen: "half_open", 9: "phase 9"} {
		if got := p.String(); got != want {
			t.Errorf("phase %d is %q, want %q", p, got, want)
		}
	}
}
