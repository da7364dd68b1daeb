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
