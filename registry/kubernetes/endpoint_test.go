package kubernetes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"plinth.internal/registry"
)

// slice makes a slice of the Service orders with a port called grpc.
func slice(name string, addresses discoveryv1.AddressType, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: "orders"}},
		AddressType: addresses,
		Endpoints:   endpoints,
		Ports:       []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(9000))}},
	}
}

// pod makes an endpoint; the conditions are those that are true of
// "rst": ready, serving, terminating.
func pod(name, address, conditions string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{address},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: name},
		NodeName:  new("node-1"),
		Zone:      new("eu-1a"),
		Conditions: discoveryv1.EndpointConditions{
			Ready:       new(strings.Contains(conditions, "r")),
			Serving:     new(strings.Contains(conditions, "s")),
			Terminating: new(strings.Contains(conditions, "t")),
		},
	}
}

const (
	v4 = discoveryv1.AddressTypeIPv4
	v6 = discoveryv1.AddressTypeIPv6
)

func TestConvert(t *testing.T) {
	bare := discoveryv1.Endpoint{Addresses: []string{"10.0.0.9", "10.0.0.10"}}
	old := pod("o", "10.0.0.1", "")
	old.Conditions = discoveryv1.EndpointConditions{Ready: new(false)}
	tests := []struct {
		name      string
		slices    []*discoveryv1.EndpointSlice
		want      string // ID=address, with a star for draining
		withdrawn string
		skipped   string
	}{
		{"none", nil, "", "", ""},
		{"up", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", "rs"))}, "o=10.0.0.1:9000", "", ""},
		{"serves and terminates", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", "st"))}, "o=10.0.0.1:9000*", "", ""},
		{"does not serve", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", ""))}, "", "o", ""},
		{"terminates only", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", "t"))}, "", "o", ""},
		{"not ready, serving not known", []*discoveryv1.EndpointSlice{slice("a", v4, old)}, "", "o", ""},
		{"no conditions, no pod", []*discoveryv1.EndpointSlice{slice("a", v4, bare)}, "10.0.0.9=10.0.0.9:9000", "", ""},
		{"two slices", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", "rs")), slice("b", v4, pod("p", "10.0.0.2", "rs"))},
			"o=10.0.0.1:9000 p=10.0.0.2:9000", "", ""},
		{"dual stack", []*discoveryv1.EndpointSlice{slice("a", v6, pod("o", "fd00::1", "rs")), slice("b", v4, pod("o", "10.0.0.1", "rs"))},
			"o=10.0.0.1:9000", "", ""},
		{"IPv6", []*discoveryv1.EndpointSlice{slice("a", v6, pod("o", "fd00::1", "rs"))}, "o=[fd00::1]:9000", "", ""},
		{"dual stack, one family serves", []*discoveryv1.EndpointSlice{slice("a", v6, pod("o", "fd00::1", "rs")), slice("b", v4, pod("o", "10.0.0.1", ""))},
			"o=[fd00::1]:9000", "", ""},
		{"in two slices at once", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", "st")), slice("b", v4, pod("o", "10.0.0.1", "rs"))},
			"o=10.0.0.1:9000", "", ""},
		{"no address", []*discoveryv1.EndpointSlice{slice("a", v4, discoveryv1.Endpoint{}, pod("o", "10.0.0.1", "rs"))},
			"o=10.0.0.1:9000", "", "shop/a/0"},
		{"bad address", []*discoveryv1.EndpointSlice{slice("a", v4, pod("bad", "10.0.0.1/8", "rs"), pod("o", "10.0.0.1", "rs"))},
			"o=10.0.0.1:9000", "", "shop/a/bad"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := convert("orders", tt.slices)
			var got, skipped []string
			for _, inst := range list.Instances {
				text := inst.ID + "=" + inst.Endpoints["grpc"]
				if inst.State == registry.Draining {
					text += "*"
				}
				got = append(got, text)
				if err := inst.Validate(); err != nil || inst.Service != "orders" || inst.Weight != registry.DefaultWeight {
					t.Errorf("instance %+v: %v", inst, err)
				}
			}
			for _, s := range list.Skipped {
				if s.Err == nil {
					t.Errorf("skipped %s without an error", s.Key)
				}
				skipped = append(skipped, s.Key)
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("instances %q, want %q", got, tt.want)
			}
			if got := strings.Join(list.Withdrawn, " "); got != tt.withdrawn {
				t.Errorf("withdrawn %q, want %q", got, tt.withdrawn)
			}
			if got := strings.Join(skipped, " "); got != tt.skipped {
				t.Errorf("skipped %q, want %q", got, tt.skipped)
			}
		})
	}
}

func TestConvertKeepsZoneAndNode(t *testing.T) {
	inst := convert("orders", []*discoveryv1.EndpointSlice{slice("a", v4, pod("o", "10.0.0.1", "rs"))}).Instances[0]
	if inst.Zone != "eu-1a" || inst.Metadata[NodeKey] != "node-1" {
		t.Errorf("zone %q, metadata %v; want those of the endpoint", inst.Zone, inst.Metadata)
	}
}

func TestPorts(t *testing.T) {
	port := func(name, app string, number int32, protocol corev1.Protocol) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: new(name), AppProtocol: new(app), Port: new(number), Protocol: new(protocol)}
	}
	tests := []struct {
		name  string
		ports []discoveryv1.EndpointPort
		want  map[string]int32
	}{
		{"by name", []discoveryv1.EndpointPort{port("grpc", "", 1, "TCP"), port("admin", "", 2, "TCP")}, map[string]int32{"grpc": 1, "admin": 2}},
		{"by protocol", []discoveryv1.EndpointPort{port("api", "grpc", 1, "TCP"), port("web", "HTTP", 2, "TCP")}, map[string]int32{"api": 1, "grpc": 1, "web": 2, "http": 2}},
		{"name before protocol", []discoveryv1.EndpointPort{port("api", "grpc", 1, "TCP"), port("grpc", "", 2, "TCP")}, map[string]int32{"api": 1, "grpc": 2}},
		{"first of a protocol", []discoveryv1.EndpointPort{port("a", "http", 1, "TCP"), port("b", "http", 2, "TCP")}, map[string]int32{"a": 1, "b": 2, "http": 1}},
		{"single without name", []discoveryv1.EndpointPort{{Port: new(int32(7))}}, map[string]int32{DefaultEndpoint: 7}},
		{"single HTTP without name", []discoveryv1.EndpointPort{port("", "http", 7, "TCP")}, map[string]int32{"http": 7}},
		{"other protocols", []discoveryv1.EndpointPort{port("ws", "kubernetes.io/ws", 1, "TCP")}, map[string]int32{"ws": 1}},
		{"not TCP", []discoveryv1.EndpointPort{port("dns", "", 53, "UDP"), port("grpc", "", 1, "TCP")}, map[string]int32{"grpc": 1}},
		{"no number", []discoveryv1.EndpointPort{{Name: new("grpc")}}, map[string]int32{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ports(tt.ports)
			if len(got) != len(tt.want) {
				t.Fatalf("ports = %v, want %v", got, tt.want)
			}
			for name, number := range tt.want {
				if got[name] != number {
					t.Errorf("ports = %v, want %v", got, tt.want)
				}
			}
		})
	}
	list := convert("orders", []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{pod("o", "10.0.0.1", "rs")}}})
	if len(list.Instances) > 0 || len(list.Skipped) != 1 || !strings.Contains(list.Skipped[0].Err.Error(), "no TCP port") {
		t.Errorf("list of an endpoint without a port: %+v, want it to be skipped", list)
	}
}
