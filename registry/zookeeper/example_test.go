package zookeeper_test

import (
	"context"
	"fmt"

	"plinth.internal/registry"
	"plinth.internal/registry/zookeeper"
)

func Example() {
	// Nobody listens there, and that stops nobody: the instance is announced
	// as soon as somebody does.
	reg, err := zookeeper.Open([]string{"127.0.0.1:1"}, zookeeper.WithNamespace("/plinth"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()

	err = reg.Announce(context.Background(), registry.Instance{
		ID:        "billing-1",
		Service:   "billing",
		Endpoints: map[string]string{"grpc": "10.0.0.7:9000"},
	})
	status := reg.Status()
	fmt.Println(err, status.State)
	fmt.Println(status.Err)
	// Output:
	// <nil> registering
	// register billing/billing-1: connect to ZooKeeper at 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused
}
