package retry_test

import (
	"fmt"
	"time"

	"plinth.internal/client/retry"
)

func Example() {
	now := time.Now()
	budget := retry.NewBudget(now)
	budget.Deposit(now) // one call

	decision := retry.Policy{}.Decide(now, retry.Attempt{
		Number:    1,
		Outcome:   retry.Unavailable,
		Unsent:    true, // the connection was refused
		Remaining: time.Second,
	}, budget)
	fmt.Println(decision.Retry, decision.Delay, decision.Reason)
	// Output: true 0s unsent
}

func ExampleHedge() {
	now := time.Now()
	var hedge retry.Hedge // of one method
	for i := range 100 {  // its calls take from 10 to 109 ms
		hedge.Observe(now, time.Duration(10+i)*time.Millisecond)
	}
	call := retry.Pending{Attempts: 1, Idempotent: true, Remaining: 3 * time.Second}

	delay, planned := hedge.Plan(now, retry.HedgePolicy{Enabled: true}, call)
	fmt.Println(planned, delay.Round(10*time.Millisecond))

	// That much later the first attempt still runs.
	call.Remaining -= delay
	decision := hedge.Allow(now.Add(delay), retry.Policy{}, call, retry.NewBudget(now))
	fmt.Println(decision.Retry, decision.Reason)
	// Output:
	// true 100ms
	// true hedge
}
