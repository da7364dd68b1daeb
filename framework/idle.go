package framework

import (
	"maps"
	"slices"
	"strings"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
	"plinth.internal/config"
	"plinth.internal/server"
)

// idleRule says when keys do nothing, because of what another one is.
type idleRule struct {
	because string // the other key and what it is
	off     bool
	keys    []string // or sections
}

// idleRules are all such keys; s are the settings with what the unset ones stand for.
// What contradicts itself is an error of the settings instead.
func (a *App) idleRules(s *settings) []idleRule {
	off := func(listener string) bool { return a.server.Endpoints()[listener] == "" }
	own := a.opts.registry == nil // else the program decides what of registry is for
	rules := []idleRule{
		{"server.http.addr is empty", off(server.HTTP), []string{
			"server.http.grpc_web", "server.http.cors", "server.http.max_body", "server.http.read_timeout", "server.http.write_timeout", "server.http.idle_timeout",
		}},
		{"server.http.cors.origins is empty", len(s.Server.HTTP.CORS.Origins) == 0, []string{"server.http.cors"}},
		{"server.grpc.addr is empty", off(server.GRPC), []string{"server.grpc.reflection"}},
		{"server.grpc.addr and server.http.addr are empty", off(server.GRPC) && off(server.HTTP), []string{
			"server.advertise", "server.tls", "server.auth", "server.limit", "server.fault",
		}},
		{"server.admin.addr is empty", off(server.Admin), []string{"server.admin.debug"}},
		{"server.tls.cert_file is empty", s.Server.TLS.CertFile == "", []string{"server.tls.client_auth"}},
		{"server.auth.mode is off", a.auth == nil, []string{"server.auth.issuers", "server.auth.policy"}},
		{"the registry is static (registry.kind)", own && s.Registry.Kind == kindStatic, []string{"registry.snapshot_dir", "registry.ttl"}},
		{"the registry is not etcd (registry.kind)", own && s.Registry.Kind != kindEtcd, []string{"registry.username", "registry.password"}},
		{"the registry is not etcd (registry.kind)", own && s.Registry.Kind != kindEtcd && !a.hasFeed(), []string{"registry.namespace"}},
		{"nothing is registered in a registry of this kind (registry.kind)", oneOf(s.Registry.Kind, kindStatic, kindDNS), []string{
			"registry.required", "server.advertise",
		}},
	}
	for _, name := range slices.Sorted(maps.Keys(s.Server.Auth.Issuers)) {
		key := "server.auth.issuers." + name
		rules = append(rules, idleRule{key + ".keys is a file", !strings.HasPrefix(s.Server.Auth.Issuers[name].Keys, "http"), []string{key + ".refresh", key + ".insecure_http"}})
	}
	modes := map[string]bool{} // of TLS, those in use
	for _, c := range s.Clients {
		modes[c.TLS.Mode] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		key, c := "clients."+name, s.Clients[name]
		files := []string{key + ".tls.cert_file", key + ".tls.key_file"}
		// What default has is for those that have a mode of their own, too.
		only := func(mode string, others ...string) bool {
			return c.TLS.Mode == mode && (name != defaultClient || !slices.ContainsFunc(others, func(m string) bool { return modes[m] }))
		}
		rules = append(rules,
			idleRule{key + ".tls.mode is " + client.TLSInsecure, only(client.TLSInsecure, client.TLSOn, client.TLSMutual), []string{key + ".tls"}},
			idleRule{key + ".tls.mode is " + client.TLSOn, only(client.TLSOn, client.TLSMutual), files},
			idleRule{"service.zone is empty", s.Service.Zone == "", []string{key + ".zone_factor"}},
		)
		if name == defaultClient {
			continue // a service may make use of what stands there
		}
		rules = append(rules,
			idleRule{key + ".balancer is " + c.Balancer, !oneOf(c.Balancer, balancer.NameAdaptive, balancer.NamePrecise), []string{key + ".zone_factor"}},
			idleRule{key + ".balancer is " + c.Balancer, c.Balancer == balancer.NameConsistentHash, []string{key + ".subset"}},
			idleRule{key + ".balancer is " + c.Balancer, c.Balancer != balancer.NameConsistentHash, []string{key + ".hash_header"}},
			idleRule{key + ".ejection.enabled is false", c.Ejection.Enabled == toggleOff, []string{key + ".ejection"}},
			idleRule{key + ".subset.size is 0", c.Subset.Size < 0, []string{key + ".subset.above"}},
		)
	}
	return rules
}

// idle are the keys that were given and do nothing, by the reason; of several reasons
// the first one is told. The listeners must be bound.
func (a *App) idle(s *settings) []SettingsIdle {
	defaults := map[string]string{}
	for _, k := range config.Describe(defaultSettings()) {
		defaults[k.Path] = k.Default
	}
	var given []config.Entry
	for _, e := range a.cfg.Entries() {
		if e.Source.Kind != config.KindDefault && e.Value != defaults[e.Key] && !oneOf(e.Value, "false", "0", "0s") {
			given = append(given, e)
		}
	}
	var out []SettingsIdle
	for _, r := range a.idleRules(s) {
		if !r.off {
			continue
		}
		found := SettingsIdle{Because: r.because}
		given = slices.DeleteFunc(given, func(e config.Entry) bool {
			about := slices.ContainsFunc(r.keys, func(k string) bool { return e.Key == k || strings.HasPrefix(e.Key, k+".") }) && !strings.HasPrefix(r.because, e.Key+" ")
			if about {
				found.Keys = append(found.Keys, e.Key)
				found.Places = append(found.Places, e.Source.String())
			}
			return about
		})
		if found.Keys != nil {
			out = append(out, found)
		}
	}
	return out
}

// tellIdle tells of the keys that do nothing, once for each reason, at the start and
// whenever the settings have changed.
func (a *App) tellIdle() {
	now, told := a.effective(), map[string]string{}
	var before map[string]string
	if last := a.idleKeys.Load(); last != nil {
		before = *last
	}
	for _, e := range a.idle(&now) {
		fresh := SettingsIdle{Because: e.Because}
		for i, key := range e.Keys {
			told[key] = e.Because
			if before[key] != e.Because {
				fresh.Keys, fresh.Places = append(fresh.Keys, key), append(fresh.Places, e.Places[i])
			}
		}
		if fresh.Keys != nil {
			a.emit(fresh)
		}
	}
	a.idleKeys.Store(&told)
}
