package client_test

import (
	"context"
	"fmt"
	"net"
	"net/rpc"

	"plinth.internal/client"
	"plinth.internal/registry/static"
)

// Arith is a service as the documentation of net/rpc has it.
type Arith struct{}

// Args are the arguments of Multiply.
type Args struct{ A, B int }

// Multiply multiplies.
func (Arith) Multiply(args *Args, reply *int) error {
	*reply = args.A * args.B
	return nil
}

// A server that is there already is called by the name of its service.
func ExampleClient_NetRPC() {
	server := rpc.NewServer()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || server.Register(Arith{}) != nil {
		fmt.Println(err)
		return
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if conn, err := lis.Accept(); err == nil {
			server.ServeConn(conn)
		}
	}()
	defer func() { _ = lis.Close(); <-stopped }()

	reg, err := static.Open(map[string][]string{"arith": {"netrpc=" + lis.Addr().String()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = reg.Close() }()
	calls, err := client.New(reg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = calls.Close() }()

	arith, err := calls.NetRPC("arith", client.WithIdempotentMethods("Arith.Multiply"))
	if err != nil {
		fmt.Println(err)
		return
	}
	var product int
	err = arith.Call(context.Background(), "Arith.Multiply", Args{A: 7, B: 8}, &product)
	fmt.Println(product, err)
	// Output: 56 <nil>
}
