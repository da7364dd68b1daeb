package consul_test

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"

	"plinth.internal/registry"
	"plinth.internal/registry/consul"
)

func Example() {
	// The agent's address, the token and TLS come from Consul's own environment
	// variables: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on.
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	reg := consul.Open(client)
	defer reg.Close()
	err = reg.Announce(context.Background(), registry.Instance{
		ID:        "orders-1",
		Service:   "orders",
		Endpoints: map[string]string{"grpc": "10.0.0.1:9000"},
	})
	if err != nil {
		fmt.Println(err)
	}
}
