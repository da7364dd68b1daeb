package zookeeper

import (
	"fmt"
	"sync/atomic"
	"testing"

	"plinth.internal/registry"
	"plinth.internal/registry/registrytest"
)

func TestConformance(t *testing.T) {
	// One server for all tests, because one takes a second to start; each
	// test has a namespace of its own.
	s := newServer(t)
	other := s.client()
	var places atomic.Int32
	registrytest.Run(t, func(*testing.T) registrytest.Harness {
		namespace := fmt.Sprintf("/plinth/test-%d", places.Add(1))
		return registrytest.Harness{
			Open: func(t *testing.T, opts ...registry.Option) *registry.Registry {
				t.Helper()
				opts = append([]registry.Option{registry.WithTTL(registry.MinTTL)}, opts...)
				reg, err := Open([]string{s.addr}, WithNamespace(namespace), WithRegistry(opts...))
				if err != nil {
					t.Fatal(err)
				}
				return reg
			},
			Put: func(t *testing.T, service, id string, value []byte) {
				t.Helper()
				put(t, other, namespace+"/services/"+service+"/"+id, value)
			},
			Outage: func(*testing.T) func() {
				s.stop()
				return s.start
			},
		}
	})
}
