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
		{"registry.endpoints", "etcd:2379", ""},
		{"registry.endpoints", "127.0.0.1:2379, http://etcd-1.etcd:2379, https://[::1]:2379/", ""},
		{"registry.endpoints", "unix:///run/etcd.sock", ""},
		{"registry.endpoints", "bogus", `has "bogus", want host:port, http://host:port or https://host:port`},
		{"registry.endpoints", "127.0.0.1:2379,127.0.0.1", `has "127.0.0.1", want`},
		{"registry.endpoints", "etcd:port", `has "etcd:port", want`},
		{"registry.endpoints", "etcd:99999", `has "etcd:99999", want`},
		{"registry.endpoints", "etcd:0", `has "etcd:0", want`},
		{"registry.endpoints", ":2379", `has ":2379", want`},
		{"registry.endpoints", "http://", `has "http://", want`},
		{"registry.endpoints", "http://etcd", `has "http://etcd", want`},
		{"registry.endpoints", "http://etcd:2379/v3", `has "http://etcd:2379/v3", want`},
		{"registry.endpoints", "ftp://x:1", `has "ftp://x:1", want`},
		{"registry.endpoints", "a b:2379", `has "a b:2379", want`},
		{"telemetry.trace.endpoint", "http://127.0.0.1:1", ""},
		{"telemetry.trace.endpoint", "grpcs://otel.example", ""},
		{"telemetry.trace.endpoint", "bogus", "is not a URL such as http://host:4318"},
		{"telemetry.trace.endpoint", "http://:4318", "is not a URL such as http://host:4318"},
		{"telemetry.trace.endpoint", "ftp://x:1", `has scheme "ftp", want http, https, grpc or grpcs`},
		{"telemetry.trace.endpoint", "http://x:99999", "has port 99999, want one from 1 to 65535"},
		{"clients.price-list.timeout", "1s", ""},
		{"clients.größe.timeout", "1s", "cannot be the name of a service"},
		{"clients.a b.timeout", "1s", "cannot be the name of a service"},
		{"telemetry.log.level", "", "is none of debug, info, warn, error"},
	} {
		shown := tc.value[:min(len(tc.value), 50)]
		app, err := framework.New("front", func(context.Context, *framework.Service) error { return nil },
			framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
			framework.WithSetting("registry.snapshot_dir", "off"), framework.WithSetting("server.tls.mode", "insecure"),
			framework.WithSetting("clients.default.tls.mode", "insecure"), framework.WithSetting(tc.key, tc.value))
		if bad, ok := errors.AsType[*config.Error](err); ok && tc.value == "" && !strings.Contains(bad.Error(), `: "" is`) {
			t.Errorf("%s: %v, want the empty value shown", tc.key, err)
		}
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
