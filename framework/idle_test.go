package framework_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"plinth.internal/framework"
)

// TestIdleSettings: what is given and does nothing is told once, with the key that
// is in the way; what does something is not.
func TestIdleSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		settings map[string]string
		want     map[string]string // by key
	}{
		"nothing": {nil, nil},
		"HTTP off": {map[string]string{
			"server.http.grpc_web": "true", "server.http.cors.origins": "https://a.example", "server.http.idle_timeout": "5s", "server.http.max_body": "4194304",
		}, map[string]string{
			"server.http.grpc_web": "server.http.addr is empty", "server.http.cors.origins": "server.http.addr is empty",
			"server.http.idle_timeout": "server.http.addr is empty",
		}},
		"HTTP on":    {map[string]string{"server.http.addr": "127.0.0.1:0", "server.http.grpc_web": "true", "server.http.cors.origins": "*", "server.http.cors.max_age": "1s"}, nil},
		"no origins": {map[string]string{"server.http.addr": "127.0.0.1:0", "server.http.cors.max_age": "1s"}, map[string]string{"server.http.cors.max_age": "server.http.cors.origins is empty"}},
		"gRPC off": {
			map[string]string{"server.grpc.addr": "", "server.http.addr": "127.0.0.1:0", "server.grpc.reflection": "true", "server.limit.max": "9"},
			map[string]string{"server.grpc.reflection": "server.grpc.addr is empty"},
		},
		"no calls": {map[string]string{"server.grpc.addr": "", "server.limit.max": "9"}, map[string]string{"server.limit.max": "server.grpc.addr and server.http.addr are empty"}},
		"no admin": {map[string]string{"server.admin.debug": "all"}, map[string]string{"server.admin.debug": "server.admin.addr is empty"}},
		"auth off": {
			map[string]string{"server.auth.policy.all.methods": "*", "server.auth.policy.all.allow": "any", "server.auth.mode": "off"},
			map[string]string{"server.auth.policy.all.methods": "server.auth.mode is off", "server.auth.policy.all.allow": "server.auth.mode is off"},
		},
		"auth on": {map[string]string{"server.auth.policy.all.methods": "*", "server.auth.policy.all.allow": "any", "server.auth.mode": "on"}, nil},
		"no TLS":  {map[string]string{"server.tls.client_auth": "none"}, map[string]string{"server.tls.client_auth": "server.tls.cert_file is empty"}},
		"no registry": {
			map[string]string{"registry.username": "u", "registry.ttl": "5s", "registry.required": "true", "server.advertise": "127.0.0.1", "registry.snapshot_dir": "off"},
			map[string]string{
				"registry.username": "the registry is not etcd (registry.kind)", "registry.ttl": "the registry is static (registry.kind)",
				"registry.required":     "nothing is registered in a registry of this kind (registry.kind)",
				"server.advertise":      "nothing is registered in a registry of this kind (registry.kind)",
				"registry.snapshot_dir": "the registry is static (registry.kind)",
			},
		},
		"clients": {
			map[string]string{
				"clients.default.hash_header": "x", "clients.a.hash_header": "x", "clients.b.hash_header": "x", "clients.b.balancer": "consistent_hash",
				"clients.a.ejection.enabled": "false", "clients.a.ejection.max": "9s", "clients.b.ejection.max": "9s",
			},
			map[string]string{"clients.a.hash_header": "clients.a.balancer is adaptive", "clients.a.ejection.max": "clients.a.ejection.enabled is false"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			got := map[string]string{}
			opts := []framework.Option{
				framework.WithConfigFile(""), framework.WithEnviron(nil), framework.WithLogOutput(t.Output()),
				framework.WithSetting("server.admin.addr", ""), framework.WithSetting("server.drain.delay", "0s"),
				framework.WithEvents(func(e framework.Event) {
					mu.Lock()
					defer mu.Unlock()
					if idle, ok := e.(framework.SettingsIdle); ok {
						for i, key := range idle.Keys {
							if _, twice := got[key]; twice || !strings.HasPrefix(idle.Places[i], "flag --"+key) {
								t.Errorf("%+v", idle)
							}
							got[key] = idle.Because
						}
					}
				}),
			}
			if _, ok := tc.settings["server.grpc.addr"]; !ok {
				opts = append(opts, framework.WithSetting("server.grpc.addr", "127.0.0.1:0"))
			}
			for _, key := range slices.Sorted(maps.Keys(tc.settings)) {
				opts = append(opts, framework.WithSetting(key, tc.settings[key]))
			}
			app, err := framework.New("front", func(context.Context, *framework.Service) error { return nil }, opts...)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- app.Run(ctx) }()
			<-app.Ready()
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !maps.Equal(got, tc.want) {
				t.Errorf("idle are %v, want %v", got, tc.want)
			}
		})
	}
}
