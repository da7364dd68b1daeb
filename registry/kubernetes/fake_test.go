package kubernetes

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"plinth.internal/registry"
	"plinth.internal/registry/registrytest"
)

func TestConformance(t *testing.T) {
	want := func(id, address string) registry.Instance {
		return registry.Instance{
			ID: id, Service: "orders", Zone: "eu-1a", Weight: registry.DefaultWeight, State: registry.Up,
			Endpoints: map[string]string{"grpc": address},
			Metadata:  map[string]string{NodeKey: "node-1"},
		}
	}
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		clientset := fake.NewClientset(
			slice("orders-1", v4, pod("o-1", "10.0.0.1", "rs"), pod("o-3", "10.0.0.3", "")),
			slice("orders-2", v4, pod("o-2", "10.0.0.2", "rs")),
		)
		return registrytest.Harness{
			Open: func(_ *testing.T, opts ...registry.Option) *registry.Registry {
				return Open(clientset, "shop", WithRegistry(opts...))
			},
			Fixed: map[string][]registry.Instance{"orders": {want("o-1", "10.0.0.1:9000"), want("o-2", "10.0.0.2:9000")}},
		}
	})
}

// awaitWatch waits until the clientset is being watched. The fake has no history
// that a watch could begin with: what changes before is not told.
func awaitWatch(t *testing.T, clientset *fake.Clientset) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !slices.ContainsFunc(clientset.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() == "watch" }) {
		if time.Now().After(deadline) {
			t.Fatal("no watch within 20s")
		}
		<-tick.C
	}
}

func TestFollows(t *testing.T) {
	clientset := fake.NewClientset(slice("a", v4, pod("o-1", "10.0.0.1", "rs"), pod("o-2", "10.0.0.2", "rs")))
	w := follow(t, Open(clientset, "shop"), "orders")
	w.untilIDs(t, "o-1", "o-2")
	awaitWatch(t, clientset)
	api := clientset.DiscoveryV1().EndpointSlices("shop")
	update := func(s *discoveryv1.EndpointSlice) {
		t.Helper()
		if _, err := api.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := api.Create(t.Context(), slice("b", v4, pod("o-3", "10.0.0.3", "rs")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilIDs(t, "o-1", "o-2", "o-3")
	update(slice("a", v4, pod("o-1", "10.0.0.1", "rs"), pod("o-2", "10.0.0.2", "st")))
	w.untilIDs(t, "o-1", "o-2*", "o-3")
	update(slice("a", v4, pod("o-1", "10.0.0.1", "rs")))
	w.untilIDs(t, "o-1", "o-3") // it drained, and is gone at once
	update(slice("b", v4, pod("o-3", "10.0.0.3", "")))
	w.untilIDs(t, "o-1") // it said that it does not serve
	update(slice("b", v4, pod("o-3", "10.0.0.3", "rs")))
	w.untilIDs(t, "o-1", "o-3")
	// Somebody deletes all slices: nobody said that the pods are gone.
	for _, name := range []string{"a", "b"} {
		if err := api.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.untilIDs(t, "o-1?", "o-3?")
}

func TestNamespaces(t *testing.T) {
	other := slice("a", v4, pod("o-9", "10.0.0.9", "rs"))
	other.Namespace = "mall"
	clientset := fake.NewClientset(slice("a", v4, pod("o-1", "10.0.0.1", "rs")), other)
	tests := []struct {
		namespace, service, want string
	}{
		{"shop", "orders", "o-1"},
		{"shop", "orders.mall", "o-9"},
		{"mall", "orders", "o-9"},
		{"", "orders", ""},
		{"", "orders.shop", "o-1"},
	}
	for _, tt := range tests {
		t.Run(tt.namespace+"/"+tt.service, func(t *testing.T) {
			u := follow(t, Open(clientset, tt.namespace), tt.service).until(t, "first list", func(update) bool { return true })
			if u.err != nil || u.ids() != tt.want {
				t.Errorf("list [%s], error %v; want [%s]", u.ids(), u.err, tt.want)
			}
			for _, inst := range u.snapshot.Instances {
				if inst.Service != tt.service {
					t.Errorf("service %q, want the name that was asked for", inst.Service)
				}
			}
		})
	}
	for _, service := range []string{"Orders", "a.b.c", "orders.", "_x"} {
		u := follow(t, Open(clientset, "shop"), service).until(t, "first list", func(update) bool { return true })
		if u.err == nil || !strings.Contains(u.err.Error(), "name of a Service") {
			t.Errorf("%q: error %v, want one about the name", service, u.err)
		}
	}
}

func TestListFails(t *testing.T) {
	clientset := fake.NewClientset(slice("a", v4, pod("o-1", "10.0.0.1", "rs")))
	failures := 2
	clientset.PrependReactor("list", "endpointslices", func(clienttesting.Action) (bool, runtime.Object, error) {
		failures--
		return failures >= 0, nil, errors.New("no permission")
	})
	w := follow(t, Open(clientset, "shop"), "orders")
	u := w.until(t, "error", func(u update) bool { return u.err != nil })
	if text := u.err.Error(); !strings.Contains(text, "shop/orders") || !strings.Contains(text, "no permission") {
		t.Errorf("error %q, want one that names the Service and the cause", text)
	}
	w.untilIDs(t, "o-1")
}
