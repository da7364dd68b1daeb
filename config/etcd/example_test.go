package etcd_test

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/config"
	"plinth.internal/config/etcd"
	"plinth.internal/registry/etcd/embedded"
)

// A service that follows its document. The framework does all this by itself where
// the registry is etcd.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := embedded.Start(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Close() }()

	type limits struct {
		PerUser int `yaml:"per_user"`
	}
	cfg, err := config.Load(config.WithFlags([]string{"limits.per_user=10"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	hot, err := config.Watch(cfg, "limits", limits{})
	if err != nil {
		fmt.Println(err)
		return
	}

	store := etcd.NewStore(client, "")
	if _, err := store.Put(context.Background(), "orders", []byte("limits: {per_user: 20}\n"), 0, "ann@desk", "more users"); err != nil {
		fmt.Println(err)
		return
	}
	feed := etcd.Open(client, "orders")
	defer func() { _ = feed.Close() }()
	if err := cfg.Attach(config.Central{Feed: feed}); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cfg.Settle(ctx, nil)
	fmt.Println(hot.Get().PerUser, cfg.Status().Err)
	// Output: 20 <nil>
}
