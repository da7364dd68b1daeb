package static_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"plinth.internal/registry/static"
)

func Example() {
	reg, err := static.Open(map[string][]string{
		"billing": {"10.0.0.1:9000", "grpc=10.0.0.2:9000,http=10.0.0.2:8080"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	for snapshot := range reg.Watch(context.Background(), "billing") {
		for _, inst := range snapshot.Instances {
			fmt.Println(inst.ID, inst.Endpoints)
		}
		break
	}
	// Output:
	// 10.0.0.1:9000 map[grpc:10.0.0.1:9000]
	// 10.0.0.2:9000 map[grpc:10.0.0.2:9000 http:10.0.0.2:8080]
}

func ExampleOpenFile() {
	path := filepath.Join(os.TempDir(), "plinth-example-instances.yaml")
	defer os.Remove(path)
	document := "billing:\n  - 10.0.0.1:9000\n  - {id: b-2, endpoints: {grpc: '10.0.0.2:9000'}, zone: b}\n"
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	reg, err := static.OpenFile(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	for snapshot := range reg.Watch(context.Background(), "billing") {
		for _, inst := range snapshot.Instances {
			fmt.Printf("%s %v zone %q\n", inst.ID, inst.Endpoints, inst.Zone)
		}
		break
	}
	// Output:
	// 10.0.0.1:9000 map[grpc:10.0.0.1:9000] zone ""
	// b-2 map[grpc:10.0.0.2:9000] zone "b"
}
