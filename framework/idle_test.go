package framework_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"plinth.internal/framework"
	"plinth.internal/frameworktest"
	"plinth.internal/internal/tlsfiles/tlstest"
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
		"zones": {
			map[string]string{"clients.default.zone_factor": "2", "clients.a.zone_factor": "3"},
			map[string]string{"clients.default.zone_factor": "service.zone is empty", "clients.a.zone_factor": "service.zone is empty"},
		},
		"balancers": {
			map[string]string{
				"service.zone": "z1", "clients.default.zone_factor": "2", "clients.default.subset.size": "12", "clients.a.balancer": "round_robin",
				"clients.a.zone_factor": "2", "clients.a.subset.size": "12", "clients.b.balancer": "consistent_hash", "clients.b.subset.above": "60",
				"clients.c.balancer": "precise", "clients.c.zone_factor": "2",
			},
			map[string]string{"clients.a.zone_factor": "clients.a.balancer is round_robin", "clients.b.subset.above": "clients.b.balancer is consistent_hash"},
		},
		"TLS by level": {
			map[string]string{
				"clients.default.tls.mode": "insecure", "clients.a.tls.server_name": "x", "clients.b.tls.mode": "tls",
				"clients.b.tls.server_name": "x", "clients.c.tls.mode": "tls",
			},
			map[string]string{"clients.a.tls.server_name": "clients.a.tls.mode is insecure"},
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

// TestIdleTLSOverridden: a place above the file may change the mode alone; what the
// file has for another one is told of.
func TestIdleTLSOverridden(t *testing.T) {
	for name, tc := range map[string]struct {
		mode, others string
		want         []string
	}{
		"nobody else":  {"insecure", "", []string{"ca_file", "cert_file", "key_file", "spiffe_id"}},
		"for somebody": {"insecure", ", a: {tls: {mode: mtls}}", nil},
		"without ours": {"tls", "", []string{"cert_file", "key_file"}},
	} {
		t.Run(name, func(t *testing.T) {
			ca := tlstest.NewAuthority(t, "ca")
			dir := tlstest.NewDir(t, t.TempDir(), ca.PEM(), ca.Issue(t, "front"))
			f := newFile(t, "clients: {default: {tls: {mode: mtls, ca_file: "+dir.CA+", cert_file: "+dir.Cert+", key_file: "+dir.Key+", spiffe_id: 'spiffe://test/*'}}"+tc.others+"}\n")
			var keys []string
			var mu sync.Mutex
			frameworktest.New(t).Start("front", func(context.Context, *framework.Service) error { return nil }, framework.WithConfigFile(f.path), framework.WithSetting("clients.default.tls.mode", tc.mode),
				framework.WithEvents(func(e framework.Event) {
					mu.Lock()
					defer mu.Unlock()
					if idle, ok := e.(framework.SettingsIdle); ok {
						keys = append(keys, idle.Keys...)
					}
				}))
			mu.Lock()
			defer mu.Unlock()
			var got []string
			for _, key := range keys {
				if key, ok := strings.CutPrefix(key, "clients.default.tls."); ok {
					got = append(got, key)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("idle are %v, want %v", got, tc.want)
			}
		})
	}
}

// TestIdleAfterAChange: what comes to do nothing while the service runs is told of,
// once.
func TestIdleAfterAChange(t *testing.T) {
	const idle = "clients: {a: {hash_header: x-user}, b: {timeout: %s}}\n"
	f := newFile(t, "clients: {a: {hash_header: x-user, balancer: consistent_hash}}\n")
	var mu sync.Mutex
	var told []string
	app := frameworktest.New(t).Start("front", func(context.Context, *framework.Service) error { return nil }, framework.WithConfigFile(f.path), framework.WithEvents(func(e framework.Event) {
		mu.Lock()
		defer mu.Unlock()
		if idle, ok := e.(framework.SettingsIdle); ok {
			told = append(told, strings.Join(idle.Keys, ",")+": "+idle.Because)
		}
	}))
	for _, timeout := range []string{"1s", "2s"} {
		f.write(fmt.Sprintf(idle, timeout))
		within(t, inTheEnd, "the change", func() bool { return debugConfig(t, app).Values["clients.b.timeout"].Value == timeout })
	}
	const want = "clients.a.hash_header: clients.a.balancer is adaptive"
	all := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(told), func(s string) bool { return !strings.HasPrefix(s, "clients.a") })
	}
	within(t, inTheEnd, "the word of it", func() bool { return len(all()) > 0 })
	if got := all(); !slices.Equal(got, []string{want}) {
		t.Errorf("told: %q", got)
	}
}
