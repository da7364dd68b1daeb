package framework

import (
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	s, err := bindSettings(t, `
clients:
  default: {target: "xds:///{service}"}
  billing: {target: "dns:///billing.example:9000"}
  users: {target: registry}
  stock: {timeout: 1s}
  sock: {target: "unix:run/{service}.sock"}
  abs: {target: "unix:///run/abs.sock"}
  host: {target: "dns:host.example:9000"}
  resolver: {target: "dns://10.0.0.2/resolver.example:9000"}
`)
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{
		"billing": "dns:///billing.example:9000", "users": "", "stock": "xds:///stock", "sock": "unix:run/sock.sock",
		"abs": "unix:///run/abs.sock", "host": "dns:host.example:9000", "resolver": "dns://10.0.0.2/resolver.example:9000", "orders": "xds:///orders",
	} {
		if got := targetOf(s.Clients, service); got != want {
			t.Errorf("%s goes to %q, want %q", service, got, want)
		}
	}
	if got := targetOf(nil, "orders"); got != "" {
		t.Errorf("without settings orders goes to %q", got)
	}
}

func TestTargetErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: {target: orders}":                  `clients.a.target: "orders" is neither registry nor a target of grpc`,
		"a: {target: 'localhost_x:9000'}":      `clients.a.target: "localhost_x:9000" is neither`,
		"a: {target: 'xds:'}":                  `clients.a.target: "xds:" is neither`,
		"a: {target: 'dns://127.0.0.1:17100'}": `clients.a.target: "dns://127.0.0.1:17100" has nothing after what grpc takes for an authority: want three slashes`,
		"a: {target: 'xds:///'}":               `clients.a.target: "xds:///" has nothing after`,
		"a: {target: 'dns://10.0.0.2/'}":       `clients.a.target: "dns://10.0.0.2/" has nothing after`,
		"a: {target: 'dns:///{svc}:1'}":        `clients.a.target: "dns:///{svc}:1" has braces around something else than the service: want {service}`,
		"a: {target: 'dns:///{service:1'}":     `has braces around something else`,
		"default: {target: xds:///a}":          `clients.default.target: "xds:///a" would send the calls of all services to one target: want {service} in it`,
	} {
		_, err := bindSettings(t, "clients:\n  "+text+"\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
}
