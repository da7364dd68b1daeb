package registry_test

import (
	"context"
	"fmt"

	"plinth.internal/registry"
	"plinth.internal/registry/memory"
)

func Example() {
	ctx := context.Background()
	reg := memory.Open(memory.NewStore(), registry.WithEvents(func(e registry.Event) {
		if e, ok := e.(registry.AnnouncementChanged); ok {
			fmt.Println(e.ID, "is", e.To)
		}
	}))
	inst := registry.Instance{
		ID:        "orders-1",
		Service:   "orders",
		Endpoints: map[string]string{"grpc": "127.0.0.1:9000"},
	}
	if err := reg.Announce(ctx, inst); err != nil {
		fmt.Println(err)
	}
	inst.State = registry.Draining
	if err := reg.Announce(ctx, inst); err != nil {
		fmt.Println(err)
	}
	for snapshot, err := range reg.Watch(ctx, "orders") {
		fmt.Println(snapshot.Instances[0].State, err)
		break
	}
	if err := reg.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// orders-1 is registered
	// draining <nil>
	// orders-1 is withdrawn
}
