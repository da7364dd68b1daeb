package breaker_test

import (
	"fmt"
	"time"

	"plinth.internal/client/breaker"
)

func Example() {
	now := time.Now()
	b := breaker.New(now, nil)
	for range 40 { // a service that is down
		if permit, ok := b.Allow(now); ok {
			b.Done(now, permit, breaker.Refused)
		}
	}
	fmt.Println(b.State(now).Reject > 0)
	fmt.Println(b.State(now.Add(breaker.Window)).Reject)
	// Output:
	// true
	// 0
}
