package balancer_test

import (
	"fmt"
	"time"

	"plinth.internal/client/balancer"
)

func Example() {
	var set balancer.Set
	now := time.Now()
	list := balancer.NewList(set.Update(now, []balancer.Member{{Addr: "10.0.0.1:9000"}, {Addr: "10.0.0.2:9000"}}))
	policy := &balancer.Adaptive{}

	// The first instance has told how busy it is.
	list.At(0).Report(now, balancer.Report{InFlight: 12, Failures: 0})
	list.At(1).Report(now, balancer.Report{InFlight: 3, Failures: 0})

	picked := list.At(policy.Pick(list, balancer.Request{Now: now}))
	var call balancer.Call
	picked.Begin(now, &call)
	fmt.Println(picked.Addr())
	picked.End(now.Add(3*time.Millisecond), &call, balancer.Succeeded)
	// Output: 10.0.0.2:9000
}
