package etcd

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"plinth.internal/registry"
	"plinth.internal/registry/registrytest"
)

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		s := newServer(t)
		other := s.dial(Config{})
		return registrytest.Harness{
			Open: func(t *testing.T, opts ...registry.Option) *registry.Registry {
				client := s.dial(Config{})
				opts = append([]registry.Option{registry.WithTTL(registry.MinTTL)}, opts...)
				return Open(client, WithRegistry(opts...))
			},
			Put: func(t *testing.T, service, id string, value []byte) {
				t.Helper()
				write(t, other, instanceKey(DefaultNamespace, service, id), value)
			},
			Override: func(t *testing.T, service, id string, value []byte) {
				t.Helper()
				write(t, other, overrideKey(DefaultNamespace, service, id), value)
			},
			Outage: func(*testing.T) func() {
				s.stop()
				return s.start
			},
		}
	})
}

// write puts a key, or deletes it if the value is nil.
func write(t *testing.T, client *clientv3.Client, key string, value []byte) {
	t.Helper()
	op := clientv3.OpPut(key, string(value))
	if value == nil {
		op = clientv3.OpDelete(key)
	}
	if _, err := client.Do(t.Context(), op); err != nil {
		t.Fatal(err)
	}
}
