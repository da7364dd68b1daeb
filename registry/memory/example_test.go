package memory_test

import (
	"context"
	"fmt"

	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

func Example() {
	ctx := context.Background()
	store := memory.NewStore()

	service := memory.Open(store)
	defer service.Close()
	err := service.Announce(ctx, registry.Instance{
		ID:        "billing-1",
		Service:   "billing",
		Endpoints: map[string]string{"grpc": "127.0.0.1:9000"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	client := memory.Open(store)
	defer client.Close()
	for snapshot, err := range client.Watch(ctx, "billing") {
		fmt.Println(snapshot.Instances[0].Endpoints["grpc"], err)
		break
	}
	// Output: 127.0.0.1:9000 <nil>
}
