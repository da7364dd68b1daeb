package framework

import (
	"cmp"
	"maps"
	"math"
	"net"
	"path/filepath"
	"slices"

	"plinth.internal/client"
	"plinth.internal/client/route"
	"plinth.internal/middleware/auth"
	"plinth.internal/server"
)

// effective are the settings as they are now, with what is unset replaced by what
// it stands for. What nothing stands for stays empty, such as the method of a rate
// for all methods.
func (a *App) effective() settings {
	s := a.current()
	s.Server.Advertise = cmp.Or(s.Server.Advertise, a.advertisedHost())
	s.Server.Drain.DumpDir = cmp.Or(s.Server.Drain.DumpDir, dumpsOff)
	if dir := a.dumpDir(); dir != "" {
		s.Server.Drain.DumpDir = dir
	}
	if cors := s.Server.HTTP.CORS.server(); cors != nil {
		filled := cors.WithDefaults()
		s.Server.HTTP.CORS.Methods, s.Server.HTTP.CORS.Headers = filled.Methods, filled.Headers
	}
	s.Server.TLS.fill()
	s.Server.Auth.fill(a.auth != nil)
	s.Server.Limit.Rate = filled(s.Server.Limit.Rate, func(_ string, r *rateSettings) {
		r.Burst = cmp.Or(r.Burst, int(max(1, math.Ceil(r.RPS))))
	})
	s.Server.Fault.Rules = filled(s.Server.Fault.Rules, func(_ string, r *faultRuleSettings) { r.Percent = r.Percent.orAll() })
	s.Telemetry.Log.Format = a.log.Format()
	s.Registry.Kind = a.registry.Kind()
	if s.Registry.SnapshotDir == "" {
		s.Registry.SnapshotDir = snapshotsOff
		if a.snapshots != "" {
			s.Registry.SnapshotDir = filepath.Dir(a.snapshots) // that of this registry is below it
		}
	}
	switch {
	case a.feed != nil:
		s.Config.Source = sourceEtcd
	case a.opts.configFeed == nil:
		s.Config.Source = sourceNone
	}
	table := a.clients.Load()
	s.Clients = filled(s.Clients, func(service string, c *clientSettings) {
		c.fill(table.resolved[clientKey{service, ""}])
		c.Target = cmp.Or(targetOf(a.settings.Clients, service), targetRegistry)
		c.Routes = filled(c.Routes, func(_ string, r *routeSettings) {
			r.Fallback = cmp.Or(r.Fallback, string(route.FallbackAny))
			r.Match.Percent = r.Match.Percent.orAll()
		})
		c.Methods = filled(c.Methods, func(method string, m *callSettings) { m.fill(table.resolved[clientKey{service, method}]) })
	})
	return s
}

// filled is a copy of a map with every value filled.
func filled[T any](m map[string]T, fill func(name string, v *T)) map[string]T {
	out := maps.Clone(m)
	for name, v := range out {
		fill(name, &v)
		out[name] = v
	}
	return out
}

// advertisedHost is the host that was found out, "" before that.
func (a *App) advertisedHost() string {
	for _, addr := range a.Instance().Endpoints {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			return host
		}
	}
	return ""
}

func (s *serverTLSSettings) fill() {
	if s.server(nil) == nil {
		s.Mode = tlsInsecure
		return
	}
	s.Mode = cmp.Or(s.Mode, tlsOn)
	if s.ClientAuth == "" {
		s.ClientAuth = server.ClientAuthNone
		if s.ClientCAFile != "" {
			s.ClientAuth = server.ClientAuthRequire
		}
	}
}

func (s *authSettings) fill(on bool) {
	s.Mode = authOff
	if on {
		s.Mode = authOn
	}
	s.Issuers = filled(s.Issuers, func(_ string, i *issuerSettings) {
		i.Refresh = cmp.Or(i.Refresh, auth.DefaultRefresh)
		if len(i.Algorithms) == 0 {
			i.Algorithms = slices.Clone(auth.Algorithms())
		}
	})
}

// orAll is all where nothing is set.
func (p percentage) orAll() percentage {
	if !p.given {
		return percentage{100, true}
	}
	return p
}

// fill takes what all levels together say.
func (c *callSettings) fill(s client.Settings) {
	c.Timeout = s.Timeout
	c.AttemptTimeout = cmp.Or(s.AttemptTimeout, max(c.Timeout, 0))
	c.Retry = retrySettings{s.Retry.MaxAttempts, s.Retry.Backoff, s.Retry.MaxBackoff}
	c.Hedge = hedgeSettings{toggleOf(s.Hedge.Enabled), s.Hedge.Delay}
	c.Breaker = s.Breaker.Policy
	c.Classic = classicSettings{s.Breaker.FailureShare, s.Breaker.MinCalls, s.Breaker.OpenFor, s.Breaker.Trials}
}

func (c *clientSettings) fill(s client.Settings) {
	c.callSettings.fill(s)
	if t := s.TLS; t != nil {
		c.TLS = clientTLSSettings{t.Mode, t.CAFile, t.CertFile, t.KeyFile, t.ServerName, t.SPIFFEID}
	}
	c.TokenFile, c.ConnectTimeout, c.HTTP.MaxConnections = s.TokenFile, s.ConnectTimeout, s.MaxConnections
	c.Balancer, c.HashHeader, c.ZoneFactor = s.Balancer, s.HashHeader, s.ZoneFactor
	c.Subset = subsetSettings{subsetSize(s.Subset.Size), subsetAbove(s.Subset.Above)}
	e := &s.Ejection
	c.Ejection = ejectionSettings{toggleOf(!e.Off), e.Consecutive, e.MinCalls, e.FailureShare, e.Worse, e.Base, e.Max, e.MaxEjected}
}

func toggleOf(on bool) toggle {
	if on {
		return toggleOn
	}
	return toggleOff
}
