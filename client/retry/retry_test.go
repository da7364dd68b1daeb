package retry

import (
	"math"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const noDeadline = time.Duration(math.MaxInt64)

func TestDecide(t *testing.T) {
	idempotent := Attempt{Number: 1, Outcome: Unavailable, Idempotent: true, Remaining: noDeadline}
	with := func(change func(*Attempt)) Attempt {
		a := idempotent
		change(&a)
		return a
	}
	tests := []struct {
		name     string
		attempt  Attempt
		retry    bool
		reason   Reason
		maxDelay time.Duration
		cost     float64
	}{
		{"success", with(func(a *Attempt) { a.Outcome = OK }), false, NotNeeded, 0, 0},
		{"canceled", with(func(a *Attempt) { a.Outcome = Canceled }), false, NotNeeded, 0, 0},
		{"canceled, unsent", with(func(a *Attempt) { a.Outcome = Canceled; a.Unsent = true }), false, NotNeeded, 0, 0},
		{"final", with(func(a *Attempt) { a.Outcome = Final }), false, NotNeeded, 0, 0},

		{"unavailable, idempotent", idempotent, true, ReasonUnavailable, DefaultBackoff, Cost},
		{"unavailable, not idempotent", with(func(a *Attempt) { a.Idempotent = false }), false, NotIdempotent, 0, 0},
		{"unsent, not idempotent", with(func(a *Attempt) { a.Idempotent = false; a.Unsent = true }), true, ReasonUnsent, 0, 0},
		{"unsent, second attempt", with(func(a *Attempt) { a.Number = 2; a.Unsent = true }), true, ReasonUnsent, 2 * DefaultBackoff, 0},
		{"unsent stream", with(func(a *Attempt) { a.Stream = true; a.Unsent = true }), true, ReasonUnsent, 0, 0},
		{"sent stream", with(func(a *Attempt) { a.Stream = true }), false, NotReplayable, 0, 0},

		{"timeout, idempotent", with(func(a *Attempt) { a.Outcome = Timeout }), true, ReasonTimeout, DefaultBackoff, TimeoutCost},
		{"timeout, not idempotent", with(func(a *Attempt) { a.Outcome = Timeout; a.Idempotent = false }), false, NotIdempotent, 0, 0},
		{"broken, idempotent", with(func(a *Attempt) { a.Outcome = Broken }), true, ReasonBroken, DefaultBackoff, Cost},
		{"broken, not idempotent", with(func(a *Attempt) { a.Outcome = Broken; a.Idempotent = false }), false, NotIdempotent, 0, 0},

		{"overloaded", with(func(a *Attempt) { a.Outcome = Overloaded }), false, NotInvited, 0, 0},
		{"overloaded, pushback", with(func(a *Attempt) { a.Outcome = Overloaded; a.Pushback = ParsePushback("40") }), true, ReasonPushback, 40 * time.Millisecond, Cost},
		{"overloaded, pushback, not idempotent", with(func(a *Attempt) {
			a.Outcome, a.Pushback, a.Idempotent = Overloaded, ParsePushback("40"), false
		}), false, NotIdempotent, 0, 0},
		{"invited, final", with(func(a *Attempt) { a.Outcome, a.Invited = Final, true }), true, ReasonInvited, DefaultBackoff, Cost},
		{"invited, final, with a delay", with(func(a *Attempt) {
			a.Outcome, a.Invited, a.Pushback = Final, true, After(40*time.Millisecond)
		}), true, ReasonPushback, 40 * time.Millisecond, Cost},
		{"invited, final, not idempotent", with(func(a *Attempt) { a.Outcome, a.Invited, a.Idempotent = Final, true, false }), false, NotIdempotent, 0, 0},
		{"invited, final, retried below", with(func(a *Attempt) { a.Outcome, a.Invited, a.RetriedBelow = Final, true, true }), false, NotAgain, 0, 0},
		{"invited, overloaded", with(func(a *Attempt) { a.Outcome, a.Invited = Overloaded, true }), true, ReasonInvited, DefaultBackoff, Cost},
		{"invited, but given up", with(func(a *Attempt) { a.Outcome, a.Invited = Canceled, true }), false, NotNeeded, 0, 0},
		{"invited, but well", with(func(a *Attempt) { a.Outcome, a.Invited = OK, true }), false, NotNeeded, 0, 0},
		{"pushback that refuses", with(func(a *Attempt) { a.Pushback = ParsePushback("-1") }), false, NotWanted, 0, 0},
		{"pushback beyond the deadline", with(func(a *Attempt) {
			a.Pushback, a.Remaining = ParsePushback("40"), 40*time.Millisecond
		}), false, NoTime, 0, 0},
		{"retried below", with(func(a *Attempt) { a.RetriedBelow = true }), false, NotAgain, 0, 0},
		{"no attempts left", with(func(a *Attempt) { a.Number = 3 }), false, NoAttempts, 0, 0},
		{"no time left", with(func(a *Attempt) { a.Remaining = 0 }), false, NoTime, 0, 0},
		{"no time for an answer", with(func(a *Attempt) { a.Remaining, a.Expected = time.Second, time.Second+1 }), false, NoTime, 0, 0},
		{"no time for an answer after the pushback", with(func(a *Attempt) {
			a.Pushback, a.Remaining, a.Expected = ParsePushback("40"), 50*time.Millisecond, 11*time.Millisecond
		}), false, NoTime, 0, 0},
		{"time for an answer after the pushback", with(func(a *Attempt) {
			a.Pushback, a.Remaining, a.Expected = ParsePushback("40"), 50*time.Millisecond, 10*time.Millisecond
		}), true, ReasonPushback, 40 * time.Millisecond, Cost},
		{"no time for an answer, unsent", with(func(a *Attempt) {
			a.Unsent, a.Remaining, a.Expected = true, 5*time.Millisecond, 6*time.Millisecond
		}), false, NoTime, 0, 0},
		{"no time left, unsent", with(func(a *Attempt) { a.Remaining = -1; a.Unsent = true }), false, NoTime, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			longest := time.Duration(-1)
			for range 200 { // the delay is drawn
				budget := NewBudget(t0)
				got := Policy{}.Decide(t0, tt.attempt, budget)
				if got.Retry != tt.retry || got.Reason != tt.reason {
					t.Fatalf("decided %+v, want retry %v because of %q", got, tt.retry, tt.reason)
				}
				if got.Delay < 0 || got.Delay > tt.maxDelay {
					t.Fatalf("delay is %s, want at most %s", got.Delay, tt.maxDelay)
				}
				if spent := BudgetMax - budget.Tokens(t0); spent != tt.cost {
					t.Fatalf("cost %v tokens, want %v", spent, tt.cost)
				}
				longest = max(longest, got.Delay)
			}
			if longest < tt.maxDelay/2 {
				t.Errorf("the longest of 200 delays is %s, of at most %s", longest, tt.maxDelay)
			}
		})
	}
}

func TestDecideWithoutBudget(t *testing.T) {
	budget := NewBudget(t0)
	for budget.Withdraw(t0, 1) {
	}
	a := Attempt{Number: 1, Outcome: Unavailable, Idempotent: true, Remaining: noDeadline}
	if got := (Policy{}).Decide(t0, a, budget); got.Retry || got.Reason != NoBudget {
		t.Errorf("decided %+v without budget", got)
	}
	a.Unsent = true
	if got := (Policy{}).Decide(t0, a, budget); !got.Retry {
		t.Errorf("decided %+v for an attempt that was not sent and costs nothing", got)
	}
}

func TestDelayIsCapped(t *testing.T) {
	p := Policy{MaxAttempts: 10, Backoff: time.Second, MaxBackoff: 1500 * time.Millisecond}
	a := Attempt{Number: 6, Outcome: Unavailable, Idempotent: true, Remaining: noDeadline}
	for range 100 {
		got := p.Decide(t0, a, NewBudget(t0))
		if !got.Retry || got.Delay > p.MaxBackoff {
			t.Fatalf("decided %+v, the limit is %s", got, p.MaxBackoff)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		policy Policy
		want   string // part of the error, "" = valid
	}{
		{Policy{}, ""},
		{Policy{MaxAttempts: 1, Backoff: time.Millisecond, MaxBackoff: time.Second}, ""},
		{Policy{MaxAttempts: -1}, "Retry.MaxAttempts to -1:"},
		{Policy{MaxAttempts: 11}, "from 1 to 10"},
		{Policy{Backoff: -1}, "Retry.Backoff to -1ns"},
		{Policy{MaxBackoff: -1}, "Retry.MaxBackoff to -1ns"},
	}
	for _, tt := range tests {
		err := tt.policy.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %q", tt.policy, err, tt.want)
		}
	}
}

func FuzzParsePushback(f *testing.F) {
	for _, s := range []string{"", "0", "25", "-1", "x", "2147483648", "1e3", " 1", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := ParsePushback(s)
		if p.given != (s != "") {
			t.Errorf("%q: given is %v", s, p.given)
		}
		if p.delay < 0 || p.never && p.delay != 0 {
			t.Errorf("%q: %+v", s, p)
		}
	})
}
