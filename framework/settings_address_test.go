package framework_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"plinth.internal/config"
	"plinth.internal/framework"
)

// TestAddresses: an address that nobody can connect to is refused before anything
// starts, with its key and its place.
func TestAddresses(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	long := strings.Repeat("z", 70_000)
	for _, tc := range []struct{ key, value, want string }{ // "" for a value that is good
		{"server.advertise", "10.0.0.5", ""},
		{"server.advertise", "::1", ""},
		{"server.advertise", "2001:db8::7", ""},
		{"server.advertise", "localhost", ""},
		{"server.advertise", "orders-0.orders.prod.svc.cluster.local", ""},
		{"server.advertise", "my_host.example.", ""},
		{"server.advertise", "1.2.3.4:9000", "is not a host, want an IP address or a DNS name without scheme, port"},
		{"server.advertise", "[::1]", "is not a host"},
		{"server.advertise", "a b", "is not a host"},
		{"server.advertise", "http://x", "is not a host"},
		{"server.advertise", "1.2.3", "is not a host"},
		{"server.advertise", "256.0.0.1", "is not a host"},
		{"server.advertise", "-a.example", "is not a host"},
		{"server.advertise", "größe.example", "is not a host"},
		{"server.advertise", "a..b", "is not a host"},
		{"server.advertise", strings.Repeat("a", 64) + ".example", "is not a host"},
		{"server.advertise", "0.0.0.0", "is the address of no machine"},
		{"server.advertise", "::", "is the address of no machine"},
		{"server.advertise", "fe80::1%eth0", "has a zone"},
		{"server.advertise", "fe80::1", "others can connect to"},
		{"server.advertise", "224.0.0.1", "others can connect to"},
		{"service.zone", "eu-1", ""},
		{"service.zone", long, "makes the instance's entry in the registry too large"},
		{"service.version", long, "makes the instance's entry in the registry too large"},
		{"service.metadata.note", long, "makes the instance's entry in the registry too large"},
	} {
		shown := tc.value[:min(len(tc.value), 50)]
		app, err := framework.New("front", func(context.Context, *framework.Service) error { return nil },
			framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()), framework.WithSetting(tc.key, tc.value))
		if tc.want == "" {
			if err == nil {
				err = app.Run(stopped) // which ends what New has begun
			}
			if err != nil {
				t.Errorf("%s=%s: %v", tc.key, shown, err)
			}
			continue
		}
		bad, ok := errors.AsType[*config.Error](err)
		if !ok || !strings.HasPrefix(tc.key, bad.Key) || bad.Source.Name != "--"+tc.key || !strings.Contains(bad.Problem, tc.want) || len(err.Error()) > 500 {
			t.Errorf("%s=%s: %.500v, want the key, the flag and %q", tc.key, shown, err, tc.want)
		}
	}
}
