package kubernetes_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"plinth.internal/registry/kubernetes"
)

func Example() {
	// In a pod: config, err := rest.InClusterConfig(), and then
	// kubernetes.NewForConfig(config) of client-go.
	clientset := fake.NewClientset(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "billing-x7k2p", Namespace: "shop",
			Labels: map[string]string{discoveryv1.LabelServiceName: "billing"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.1.0.7"},
			Zone:      new("eu-1a"),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "billing-0"},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(9000))}},
	})

	reg := kubernetes.Open(clientset, "shop")
	defer reg.Close()
	for snapshot, err := range reg.Watch(context.Background(), "billing") {
		inst := snapshot.Instances[0]
		fmt.Println(inst.ID, inst.Zone, inst.Endpoints["grpc"], err)
		break
	}
	// Output: billing-0 eu-1a 10.1.0.7:9000 <nil>
}
