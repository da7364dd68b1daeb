package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"plinth.internal/registry"
)

// DefaultNamespace is the namespace of a registry that is opened without one.
const DefaultNamespace = "default"

// Clientset is the part of client-go's clientset that is needed: both
// *kubernetes.Clientset and the fake one have it.
type Clientset interface {
	DiscoveryV1() discoveryclient.DiscoveryV1Interface
}

// Open returns a registry of the Services in the given namespace; empty means
// [DefaultNamespace]. The clientset may be shared with others, and stays open
// when the registry is closed. Nothing is asked of the API before the registry
// is used.
func Open(clientset Clientset, namespace string, opts ...Option) *registry.Registry {
	var o options
	for _, opt := range opts {
		opt.apply(&o)
	}
	if namespace == "" {
		namespace = DefaultNamespace
	}
	return registry.New(&driver{client: clientset.DiscoveryV1(), namespace: namespace}, o.registry...)
}

// driver is the Kubernetes API as registry.Driver sees it.
type driver struct {
	client    discoveryclient.DiscoveryV1Interface
	namespace string
}

func (d *driver) Kind() string { return "kubernetes" }

// Scope names the namespace that is used.
func (d *driver) Scope() string { return d.namespace }

func (d *driver) Close() error { return nil }

func (d *driver) Register(context.Context, registry.Instance, time.Duration) (registry.Registration, error) {
	return nil, registry.ErrReadOnly
}

// resolve splits the name of a service into those of the Service and of its
// namespace.
func (d *driver) resolve(service string) (name, namespace string, err error) {
	name, namespace, ok := strings.Cut(service, ".")
	if !ok {
		namespace = d.namespace
	}
	for _, part := range []string{name, namespace} {
		if problems := validation.IsDNS1123Label(part); len(problems) > 0 {
			return "", "", fmt.Errorf("%q must be the name of a Service, or that and its namespace as in orders.shop: %w",
				service, errors.New(strings.Join(problems, ", ")))
		}
	}
	return name, namespace, nil
}
