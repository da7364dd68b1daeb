package memory_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"plinth.internal/registry"
	"plinth.internal/registry/memory"
	"plinth.internal/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(*testing.T) registrytest.Harness {
		store := memory.NewStore()
		return registrytest.Harness{
			Open:     func(_ *testing.T, opts ...registry.Option) *registry.Registry { return memory.Open(store, opts...) },
			Put:      func(_ *testing.T, service, id string, value []byte) { store.Put(service, id, value) },
			Override: func(_ *testing.T, service, id string, value []byte) { store.PutOverride(service, id, value) },
			Outage: func(*testing.T) func() {
				store.SetDown(errors.New("store is down"))
				return func() {
					store.Expire("o-1")
					store.SetDown(nil)
				}
			},
		}
	})
}

func TestExpire(t *testing.T) {
	store := memory.NewStore()
	if store.Expire("o-1") {
		t.Error("Expire of an unknown entry = true")
	}
	store.Put("orders", "o-1", []byte(`{"endpoints":{"grpc":"127.0.0.1:1"}}`))
	store.Put("orders", "bad", []byte(`{}`))
	if got := store.Instances("orders"); len(got) != 1 || got[0].ID != "o-1" {
		t.Errorf("Instances = %+v, want o-1", got)
	}
	if !store.Expire("o-1") {
		t.Error("Expire of an entry = false")
	}
	if got := store.Instances("orders"); len(got) != 0 {
		t.Errorf("Instances = %+v after Expire, want none", got)
	}
}
