package retry

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	b := NewBudget(t0)
	if got := b.Tokens(t0); got != BudgetMax {
		t.Errorf("a new budget holds %v", got)
	}
	if b.Withdraw(t0, BudgetMax+1) {
		t.Error("paid more than there is")
	}
	if got := b.Tokens(t0); got != BudgetMax {
		t.Errorf("a refused payment left %v", got)
	}
	if !b.Withdraw(t0, BudgetMax) || b.Withdraw(t0, 1) {
		t.Error("the budget is not what it says it is")
	}
	if !b.Withdraw(t0, 0) {
		t.Error("nothing could not be paid")
	}
	for range 10 {
		b.Deposit(t0)
	}
	if got := b.Tokens(t0); got != 1 {
		t.Errorf("ten calls added %v, want 1", got)
	}
	if got := b.Tokens(t0.Add(3 * time.Second)); got != 4 {
		t.Errorf("three seconds later it holds %v, want 4", got)
	}
	if got := b.Tokens(t0.Add(-time.Hour)); got != 4 {
		t.Errorf("a clock that went back left %v, want 4", got)
	}
	if got := b.Tokens(t0.Add(time.Hour)); got != BudgetMax {
		t.Errorf("an hour later it holds %v, want %v", got, BudgetMax)
	}
}

func TestBudgetConcurrent(t *testing.T) {
	b := NewBudget(t0)
	var paid atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				b.Deposit(t0)
				if b.Withdraw(t0, 1) {
					paid.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// 20 at first, and a tenth for each of 8000 calls but those that found it full.
	if got := paid.Load(); got < 100 || got > 820 {
		t.Errorf("%d retries were paid for, want at most 820", got)
	}
	if got := b.Tokens(t0); got < 0 || got > BudgetMax {
		t.Errorf("the budget holds %v", got)
	}
}

// TestSimulationAmplification lets every attempt of a client fail for a minute
// and counts what reaches the service.
func TestSimulationAmplification(t *testing.T) {
	tests := []struct {
		name    string
		rate    int     // calls a second
		outcome Outcome // of every attempt
		most    float64 // attempts a call
	}{
		{"1000/s unavailable", 1000, Unavailable, 1.11},
		{"1000/s timeout", 1000, Timeout, 1.06},
		{"10/s unavailable", 10, Unavailable, 1.24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			budget := NewBudget(t0)
			calls, attempts := 0, 0
			for i := range tt.rate * 60 {
				now := t0.Add(time.Duration(i) * time.Second / time.Duration(tt.rate))
				calls++
				budget.Deposit(now)
				for n := 1; ; n++ {
					attempts++
					a := Attempt{Number: n, Outcome: tt.outcome, Idempotent: true, Remaining: time.Second}
					if !(Policy{}).Decide(now, a, budget).Retry {
						break
					}
				}
			}
			if got := float64(attempts) / float64(calls); got > tt.most || got < 1.02 {
				t.Errorf("%.3f attempts a call, want more than 1.02 and at most %.2f", got, tt.most)
			}
		})
	}
}

// TestSimulationFewFailures: where two of a hundred attempts fail, the budget
// is never in the way.
func TestSimulationFewFailures(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	budget := NewBudget(t0)
	for i := range 100_000 {
		now := t0.Add(time.Duration(i) * time.Millisecond)
		budget.Deposit(now)
		for n := 1; rng.IntN(50) == 0; n++ {
			a := Attempt{Number: n, Outcome: Unavailable, Idempotent: true, Remaining: time.Second}
			if got := (Policy{MaxAttempts: 10}).Decide(now, a, budget); !got.Retry {
				t.Fatalf("call %d was not retried: %s", i, got.Reason)
			}
		}
	}
}

func BenchmarkDeposit(b *testing.B) {
	budget := NewBudget(time.Now())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Deposit(time.Now())
		}
	})
}
