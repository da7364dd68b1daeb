package backoff_test

import (
	"fmt"
	"time"

	"plinth.internal/internal/backoff"
)

func ExampleFullJitter() {
	for attempt := range 4 {
		wait := backoff.FullJitter(200*time.Millisecond, time.Second, attempt)
		ceiling := backoff.Ceiling(200*time.Millisecond, time.Second, attempt)
		fmt.Println(ceiling, wait <= ceiling)
	}
	// Output:
	// 200ms true
	// 400ms true
	// 800ms true
	// 1s true
}
