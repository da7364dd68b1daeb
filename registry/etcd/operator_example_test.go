package etcd_test

import (
	"context"
	"fmt"
	"os"

	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func ExampleOperator() {
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, err := etcd.Dial(etcd.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	ctx := context.Background()
	// This is done by the service ...
	reg := etcd.Open(client)
	defer reg.Close()
	err = reg.Announce(ctx, registry.Instance{
		ID:        "billing-1",
		Service:   "billing",
		Endpoints: map[string]string{"grpc": "10.0.0.1:9000"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	// ... and this by whoever runs it.
	operator := etcd.NewOperator(client, "")
	defer operator.Close()
	inst, err := operator.Find(ctx, "bill")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := operator.SetOverride(ctx, inst.Service, inst.ID, registry.Override{State: registry.Draining}); err != nil {
		fmt.Println(err)
		return
	}
	inst, err = operator.Await(ctx, inst.Service, inst.ID, func(inst registry.Instance, _ int64) bool {
		return inst.State == registry.Draining
	})
	fmt.Println(inst.ID, inst.State, err)
	// Output: billing-1 draining <nil>
}
