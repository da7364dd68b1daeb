package framework

import (
	"cmp"
	"strings"

	"plinth.internal/client"
	"plinth.internal/client/balancer"
)

// clientKey is a level of the section clients; the method "" is the service.
type clientKey struct{ service, method string }

func (k clientKey) compare(l clientKey) int {
	return strings.Compare(k.service+"\x00"+k.method, l.service+"\x00"+l.method)
}

// String is the level's key.
func (k clientKey) String() string {
	if k.method == "" {
		return "clients." + k.service
	}
	return "clients." + k.service + ".methods." + k.method
}

// clientTable is the section clients with its levels resolved. It is never
// changed.
type clientTable struct {
	resolved map[clientKey]client.Settings
	fallback client.Settings
}

// newClientTable resolves the levels once: clients.default, clients.<service>,
// clients.<service>.methods.<Method>; the most specific wins, value by value.
func newClientTable(clients map[string]clientSettings) *clientTable {
	t := &clientTable{resolved: map[clientKey]client.Settings{}}
	all := clients[defaultClient]
	for service, c := range clients {
		routes, _ := newRoutes(all.Routes, c.Routes) // validated before
		var base client.Settings
		all.overlay(&base)
		c.overlay(&base)
		base.Routes = routes
		t.resolved[clientKey{service, ""}] = withDefaults(base)
		names := map[string]bool{}
		for m := range all.Methods {
			names[m] = true
		}
		for m := range c.Methods {
			names[m] = true
		}
		for m := range names {
			var s client.Settings
			everywhere, here := all.Methods[m], c.Methods[m]
			all.overlay(&s)
			everywhere.overlay(&s)
			c.overlay(&s)
			here.overlay(&s)
			// What is meant for all calls is too short for streams.
			set(&s.StreamTimeout, everywhere.Timeout)
			set(&s.StreamTimeout, here.Timeout)
			s.Routes = routes
			s.OwnBreaker = everywhere.setsBreaker() || here.setsBreaker()
			t.resolved[clientKey{service, m}] = withDefaults(s)
		}
	}
	t.fallback = client.DefaultSettings()
	if s, ok := t.resolved[clientKey{defaultClient, ""}]; ok {
		t.fallback = s
	}
	return t
}

// settings finds the most specific level.
func (t *clientTable) settings(service, method string) client.Settings {
	for _, k := range [...]clientKey{{service, method}, {service, ""}, {defaultClient, method}} {
		if s, ok := t.resolved[k]; ok {
			return s
		}
	}
	return t.fallback
}

// withDefaults fills in what no level has set, as client.DefaultSettings does.
func withDefaults(s client.Settings) client.Settings {
	s.Retry, s.Ejection, s.Breaker = s.Retry.WithDefaults(), s.Ejection.WithDefaults(), s.Breaker.WithDefaults()
	s.Subset = s.Subset.WithDefaults()
	s.Timeout = cmp.Or(s.Timeout, client.DefaultTimeout)
	s.ZoneFactor = cmp.Or(s.ZoneFactor, balancer.DefaultAwayFactor)
	if s.Balancer == "" {
		s.Balancer = balancer.NameAdaptive
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = client.DefaultConnectTimeout
	}
	if s.MaxConnections == 0 {
		s.MaxConnections = client.DefaultMaxConnections
	}
	return s
}

func (c *clientSettings) overlay(s *client.Settings) {
	set(&s.Balancer, c.Balancer)
	set(&s.ConnectTimeout, c.ConnectTimeout)
	set(&s.HashHeader, c.HashHeader)
	set(&s.MaxConnections, c.HTTP.MaxConnections)
	c.TLS.overlay(s)
	set(&s.TokenFile, c.TokenFile)
	set(&s.ZoneFactor, c.ZoneFactor)
	set(&s.Subset.Size, int(c.Subset.Size))
	set(&s.Subset.Above, int(c.Subset.Above))
	e := &c.Ejection
	enabled := !s.Ejection.Off
	e.Enabled.overwrite(&enabled)
	s.Ejection.Off = !enabled
	set(&s.Ejection.Consecutive, e.Consecutive)
	set(&s.Ejection.MinCalls, e.MinCalls)
	set(&s.Ejection.FailureShare, e.FailureShare)
	set(&s.Ejection.Worse, e.Worse)
	set(&s.Ejection.Base, e.Base)
	set(&s.Ejection.Max, e.Max)
	set(&s.Ejection.MaxEjected, e.MaxEjected)
	c.callSettings.overlay(s)
}

func (c *callSettings) overlay(s *client.Settings) {
	set(&s.Timeout, c.Timeout)
	set(&s.AttemptTimeout, c.AttemptTimeout)
	set(&s.Retry.MaxAttempts, c.Retry.MaxAttempts)
	set(&s.Retry.Backoff, c.Retry.Backoff)
	set(&s.Retry.MaxBackoff, c.Retry.MaxBackoff)
	c.Hedge.Enabled.overwrite(&s.Hedge.Enabled)
	set(&s.Hedge.Delay, c.Hedge.Delay)
	set(&s.Breaker.Policy, c.Breaker)
	set(&s.Breaker.FailureShare, c.Classic.FailureShare)
	set(&s.Breaker.MinCalls, c.Classic.MinCalls)
	set(&s.Breaker.OpenFor, c.Classic.OpenFor)
	set(&s.Breaker.Trials, c.Classic.Trials)
}

// setsBreaker reports whether a method asks for a breaker of its own.
func (c *callSettings) setsBreaker() bool {
	return c.Breaker != "" || c.Classic != classicSettings{}
}

// set overwrites where there is something to overwrite with.
func set[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}
