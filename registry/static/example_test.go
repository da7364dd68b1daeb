package static_test

import (
	"context"
	"fmt"

	"plinth.internal/registry/static"
)

func Example() {
	reg, err := static.Open(map[string][]string{
		"billing": {"10.0.0.1:9000", "grpc=10.0.0.2:9000,http=10.0.0.2:8080"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	for snapshot := range reg.Watch(context.Background(), "billing") {
		for _, inst := range snapshot.Instances {
			fmt.Println(inst.ID, inst.Endpoints)
		}
		break
	}
	// Output:
	// 10.0.0.1:9000 map[grpc:10.0.0.1:9000]
	// 10.0.0.2:9000 map[grpc:10.0.0.2:9000 http:10.0.0.2:8080]
}
