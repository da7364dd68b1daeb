package static_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"plinth.internal/registry"
	"plinth.internal/registry/registrytest"
	"plinth.internal/registry/static"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	inst := func(id string, endpoints map[string]string) registry.Instance {
		return registry.Instance{ID: id, Service: "billing", Endpoints: endpoints, Weight: registry.DefaultWeight, State: registry.Up}
	}
	registrytest.Run(t, func(*testing.T) registrytest.Harness {
		return registrytest.Harness{
			Open: func(t *testing.T, opts ...registry.Option) *registry.Registry {
				reg, err := static.Open(map[string][]string{
					"billing": {"grpc=10.0.0.2:9000, http=10.0.0.2:8080", "10.0.0.1:9000", "http=[fe80::1%eth0]:80"},
					"nothing": nil,
				}, opts...)
				if err != nil {
					t.Fatal(err)
				}
				return reg
			},
			Fixed: map[string][]registry.Instance{
				"billing": {
					inst("10.0.0.1:9000", map[string]string{"grpc": "10.0.0.1:9000"}),
					inst("10.0.0.2:9000", map[string]string{"grpc": "10.0.0.2:9000", "http": "10.0.0.2:8080"}),
					inst("fe80::1-eth0:80", map[string]string{"http": "[fe80::1%eth0]:80"}),
				},
				"nothing": {},
			},
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name, service string
		addresses     []string
		want          string
	}{
		{"no port", "billing", []string{"10.0.0.1"}, `read address "10.0.0.1" of service "billing": endpoint grpc "10.0.0.1": must be host:port`},
		{"empty", "billing", []string{""}, "must be host:port"},
		{"port out of range", "billing", []string{"h:65536"}, "port must be a number from 1 to 65535"},
		{"bad service", "a/b", []string{"h:1"}, `service "a/b"`},
		{"twice", "billing", []string{"h:1", "grpc=h:1"}, "is given twice"},
		{"protocol twice", "billing", []string{"grpc=h:1,grpc=h:2"}, `protocol "grpc" is given twice`},
		{"protocol missing", "billing", []string{"grpc=h:1, h:2"}, "must name its protocol, such as grpc=h:2"},
		{"bad protocol", "billing", []string{"g rpc=h:1"}, `endpoint name "g rpc"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg, err := static.Open(map[string][]string{tt.service: tt.addresses})
			if err == nil {
				reg.Close()
				t.Fatal("Open returned no error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to contain %q", err, tt.want)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, s := range []string{"h:1", "grpc=h:1,http=h:2", "[::1]:80", "a=b=c:1", ",", "\x00:1", "[::1%x/]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		reg, err := static.Open(map[string][]string{"billing": {address}})
		if err != nil {
			return
		}
		defer reg.Close()
		for snapshot := range reg.Watch(t.Context(), "billing") {
			if err := snapshot.Instances[0].Validate(); err != nil {
				t.Errorf("Open accepted %q: %v", address, err)
			}
			return
		}
	})
}
