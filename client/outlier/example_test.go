package outlier_test

import (
	"fmt"
	"time"

	"plinth.internal/client/outlier"
)

func Example() {
	now := time.Now()
	detector := outlier.New(outlier.Config{}, nil)
	records := detector.Update(now, []outlier.Member{{Addr: "10.0.0.1:9000"}, {Addr: "10.0.0.2:9000"}, {Addr: "10.0.0.3:9000"}})
	sick := records[0]

	for range 5 {
		ticket := sick.Begin(now)
		if change := sick.End(now, ticket, outlier.Failed); change.Kind == outlier.Ejected {
			fmt.Println("ejected", change.Addr, "for", change.Reason)
		}
	}
	fmt.Println("may be picked:", sick.Open(now))

	now = now.Add(6 * time.Second) // 5 s, give or take a tenth
	trial := sick.Begin(now)
	fmt.Println("may be picked beside its trial:", sick.Open(now))
	if change := sick.End(now, trial, outlier.Succeeded); change.Kind == outlier.Returned {
		fmt.Println("returned", change.Addr)
	}
	// Output:
	// ejected 10.0.0.1:9000 for consecutive
	// may be picked: false
	// may be picked beside its trial: false
	// returned 10.0.0.1:9000
}
