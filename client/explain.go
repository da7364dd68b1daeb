package client

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/client/retry"
	"plinth.internal/registry"
)

// Explain returns what the client knows of each service that it has been asked
// for, sorted by name, and why its calls go where they go. It looks at every
// instance, and waits for nothing: it is for a person or a page, not for each
// call. Calls pay nothing for it.
func (c *Client) Explain() []ServiceExplained {
	c.mu.Lock()
	services := slices.Collect(maps.Values(c.services))
	c.mu.Unlock()
	slices.SortFunc(services, func(a, b *service) int { return cmp.Compare(a.name, b.name) })
	all := make([]ServiceExplained, 0, len(services))
	for _, s := range services {
		all = append(all, s.explain(time.Now()))
	}
	return all
}

func (s *service) explain(now time.Time) ServiceExplained {
	snapshot, known := s.client.registry.Current(s.name)
	e := ServiceExplained{
		Service:        s.name,
		Target:         s.target,
		Registry:       s.explainList(now, snapshot),
		Instances:      []InstanceExplained{},
		Protocols:      []ProtocolExplained{},
		Breakers:       []BreakerExplained{},
		RetryTokens:    s.budget.Tokens(now),
		RetryTokensMax: retry.BudgetMax,
	}
	s.explainMethods(now, &e)
	for _, d := range []*directory{s.grpc, s.http, s.netrpc} {
		f := &fleetExplained{policy: s.policyName(), list: d.detector.State(now), routes: s.settings("").Routes, held: held(e.Breakers)}
		f.explain(now, d, snapshot)
		if err := d.nobody.Load(); err != nil && f.up == 0 {
			e.nobody = append(e.nobody, fmt.Sprintf("nobody can be called over %s: %v", d.protocol, *err))
		}
		if len(f.instances) == 0 {
			continue // nobody has called over it, or nobody can
		}
		e.Instances = append(e.Instances, f.instances...)
		e.Protocols = append(e.Protocols, f.protocol(d))
	}
	e.Totals, e.Events = s.client.recent.of(s.name)
	e.Why = e.why(known)
	return e
}

// policyName is the policy of the service that is used.
func (s *service) policyName() string {
	if name := s.settings("").Balancer; slices.Contains(balancer.Names(), name) {
		return name
	}
	return balancer.NameAdaptive
}

func (s *service) explainList(now time.Time, snapshot registry.Snapshot) ListExplained {
	l := ListExplained{Kind: s.kind(), Source: string(snapshot.Source), Revision: snapshot.Revision, At: snapshot.At}
	if !l.At.IsZero() {
		l.AgeS = seconds(max(now.Sub(l.At), 0))
	}
	if o := s.outage.Load(); o != nil && o.err != nil {
		l.Error = o.err.Error()
	}
	return l
}

// explainMethods tells of the breakers, and of settings other than the service's.
func (s *service) explainMethods(now time.Time, e *ServiceExplained) {
	base := s.settings("")
	e.Settings = []SettingsExplained{explainSettings("", base)}
	if f := s.shared.current.Load(); f != nil {
		e.Breakers = append(e.Breakers, explainBreaker(now, "", f.breaker.State(now)))
	}
	known := s.methods.known.Load()
	if known == nil {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(*known), func(a, b methodKey) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.method, b.method))
	}) {
		set := s.settings(key.method)
		if set != base {
			e.Settings = append(e.Settings, explainSettings(key.String(), set))
		}
		if f := (*known)[key].own.current.Load(); f != nil && set.OwnBreaker {
			e.Breakers = append(e.Breakers, explainBreaker(now, key.String(), f.breaker.State(now)))
		}
	}
}

// String is the method's full name, or what stands for all that are too many.
func (k methodKey) String() string {
	switch {
	case k == (methodKey{}):
		return "(others)"
	case k.service == "":
		return k.method
	}
	return k.service + "/" + k.method
}

// explainSettings tells of the settings that are used: of one that is not valid, that
// is the default.
func explainSettings(method string, s Settings) SettingsExplained {
	s = s.effective()
	if !slices.Contains(balancer.Names(), s.Balancer) {
		s.Balancer = balancer.NameAdaptive
	}
	if s.Breaker.Validate() != nil {
		s.Breaker = breaker.Config{}
	}
	return SettingsExplained{
		Method: method, TimeoutMS: millis(s.timeout(false)), StreamTimeoutMS: millis(s.timeout(true)), AttemptTimeoutMS: millis(max(s.AttemptTimeout, 0)),
		Attempts: s.Retry.MaxAttempts, Hedge: s.Hedge.Enabled,
		Balancer: s.Balancer, Breaker: cmp.Or(s.Breaker.Policy, breaker.PolicyAdaptive),
		OwnBreaker: s.OwnBreaker, Ejection: !s.Ejection.Off,
	}
}

// explainEjection tells of a record; nil where there is nothing to tell.
func explainEjection(now time.Time, s outlier.State, list outlier.Summary) *EjectionExplained {
	if !s.Ejected && s.Count == 0 {
		return nil
	}
	e := &EjectionExplained{
		Now: s.Ejected, KeptOut: s.Ejected && !list.Panic && !list.Off, Trial: s.Trial,
		Reason: string(s.Reason), Share: s.Share, Times: s.Count,
	}
	if s.Ejected && s.Until.After(now) {
		e.Until, e.InS = s.Until, seconds(s.Until.Sub(now))
	}
	return e
}

func seconds(d time.Duration) float64 { return d.Seconds() }
func millis(d time.Duration) float64  { return float64(d) / float64(time.Millisecond) }
