package etcd_test

import (
	"context"
	"fmt"
	"os"

	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/etcd/embedded"
)

func Example() {
	ctx := context.Background()
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
	reg := etcd.Open(client, etcd.WithNamespace("/plinth"))
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
	for snapshot, err := range reg.Watch(ctx, "billing") {
		fmt.Println(snapshot.Instances[0].ID, err)
		break
	}
	// Output: billing-1 <nil>
}
