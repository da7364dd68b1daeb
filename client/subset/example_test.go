package subset_test

import (
	"fmt"

	"plinth.internal/client/subset"
)

func Example() {
	var instances []string
	for i := range 200 {
		instances = append(instances, fmt.Sprintf("10.0.%d.%d:9000", i/100, i%100))
	}
	size := subset.Config{}.Of(len(instances))
	mine := subset.Pick("orders/web-17", instances, size)
	again := subset.Pick("orders/web-17", instances, size)
	fmt.Println(len(mine), fmt.Sprint(mine) == fmt.Sprint(again))
	// Output: 20 true
}
