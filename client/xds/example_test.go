package xds_test

import (
	"fmt"

	"plinth.internal/client"
	"plinth.internal/client/xds"
	"plinth.internal/registry/memory"
)

func Example() {
	// All services are called through the mesh, and it has their certificates.
	reg := memory.Open(memory.NewStore())
	defer func() { _ = reg.Close() }()
	c, err := client.New(reg, xds.WithCredentials(), client.WithTargets(func(service string) string {
		return "xds:///" + service
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	conn, err := c.Conn("orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(conn.Target())
	// Output: xds:///orders
}
