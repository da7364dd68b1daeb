package balancer_test

import (
	"fmt"
	"time"

	"plinth.internal/client/balancer"
)

func Example() {
	var set balancer.Set
	endpoints := set.Update(time.Now(), []balancer.Member{{Addr: "10.0.0.1:9000"}, {Addr: "10.0.0.2:9000"}})
	policy := &balancer.LeastRequest{}

	busy := endpoints[0]
	busy.Begin()

	picked := endpoints[policy.Pick(time.Now(), endpoints, nil)]
	picked.Begin()
	fmt.Println(picked.Addr())
	picked.End(balancer.Succeeded, 3*time.Millisecond)
	// Output: 10.0.0.2:9000
}
