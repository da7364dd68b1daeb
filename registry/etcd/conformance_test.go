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
				key, op := DefaultNamespace+"/services/"+service+"/"+id, clientv3.Op{}
				if op = clientv3.OpPut(key, string(value)); value == nil {
					op = clientv3.OpDelete(key)
				}
				if _, err := other.Do(t.Context(), op); err != nil {
					t.Fatal(err)
				}
			},
			Outage: func(*testing.T) func() {
				s.stop()
				return s.start
			},
		}
	})
}
