package breaker_test

import (
	"fmt"
	"time"

	"plinth.internal/client/breaker"
)

func Example() {
	now := time.Now()
	b := breaker.New(breaker.Config{}, now, nil)
	for range 40 { // a service that is down
		permit, err := b.Allow(now)
		if err != nil {
			continue // UNAVAILABLE, at once
		}
		b.Done(now, permit, breaker.Refused)
	}
	fmt.Println(b.State(now).Reject > 0)
	fmt.Println(b.State(now.Add(breaker.Window)).Reject)
	// Output:
	// true
	// 0
}
