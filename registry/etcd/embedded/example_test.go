package embedded_test

import (
	"fmt"
	"os"

	"plinth.internal/registry/etcd/embedded"
)

func Example() {
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
	fmt.Println("clients connect to a free port:", server.Endpoint() != "127.0.0.1:0")
	// Output: clients connect to a free port: true
}
