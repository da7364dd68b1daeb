package dns_test

import (
	"context"
	"fmt"

	"plinth.internal/registry/dns"
)

func Example() {
	// In a cluster: "grpc={service}.prod.svc.cluster.local.:9000" for a headless
	// service, or "_grpc._tcp.{service}.prod.svc.cluster.local." for its port
	// named grpc. An address needs no DNS, so it serves for the example.
	reg, err := dns.Open("{service}:9000,http={service}:8080")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	for snapshot, err := range reg.Watch(context.Background(), "127.0.0.1") {
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, inst := range snapshot.Instances {
			fmt.Println(inst.ID, inst.Endpoints)
		}
		break
	}
	// Output: 127.0.0.1:9000 map[grpc:127.0.0.1:9000 http:127.0.0.1:8080]
}
