package framework

import (
	"errors"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/client"
	"plinth.internal/config"
	"plinth.internal/registry"
)

// maxAttempts is the bound of retry.Policy.
const maxAttempts = 10

// defaultClient is the name in the section clients that stands for all
// services.
const defaultClient = "default"

// callSettings are what can be configured for a method. Zero values leave the
// setting to the next, less specific level.
type callSettings struct {
	Timeout        time.Duration `yaml:"timeout" doc:"longest time of a call with all its attempts; 3s unless set, below zero for none"`
	AttemptTimeout time.Duration `yaml:"attempt_timeout" doc:"longest time of one attempt of a call that may be repeated; the call's unless set"`
	Retry          retrySettings `yaml:"retry"`
	Breaker        string        `yaml:"breaker" doc:"adaptive (the default) or off"`
}

type retrySettings struct {
	MaxAttempts int           `yaml:"max_attempts" doc:"most attempts of a call, the first one counted in; 3 unless set, 1 for no retry"`
	Backoff     time.Duration `yaml:"backoff" doc:"longest pause before the first retry, doubled with each one; 25ms unless set"`
	MaxBackoff  time.Duration `yaml:"max_backoff" doc:"bound of the doubling; 1s unless set"`
}

// clientSettings are what can be configured for a service.
type clientSettings struct {
	callSettings `yaml:",inline"`

	Balancer string                  `yaml:"balancer" doc:"least_request (the default) or round_robin"`
	Methods  map[string]callSettings `yaml:"methods"`
}

// Validate checks what the types cannot.
func (c *callSettings) Validate() error {
	var errs []error
	if c.AttemptTimeout < 0 {
		errs = append(errs, config.Invalid("attempt_timeout", "is below zero"))
	}
	if n := c.Retry.MaxAttempts; n < 0 || n > maxAttempts {
		errs = append(errs, config.Invalid("retry.max_attempts", "is not from 1 to %d", maxAttempts))
	}
	if c.Retry.Backoff < 0 {
		errs = append(errs, config.Invalid("retry.backoff", "is below zero"))
	}
	if c.Retry.MaxBackoff < 0 {
		errs = append(errs, config.Invalid("retry.max_backoff", "is below zero"))
	}
	if c.Breaker != "" && !oneOf(c.Breaker, client.BreakerAdaptive, client.BreakerOff) {
		errs = append(errs, config.Invalid("breaker", "is none of %s, %s", client.BreakerAdaptive, client.BreakerOff))
	}
	return errors.Join(errs...)
}

// Validate checks what the types cannot.
func (c *clientSettings) Validate() error {
	err := c.callSettings.Validate()
	if c.Balancer != "" && !oneOf(c.Balancer, client.LeastRequest, client.RoundRobin) {
		err = errors.Join(err, config.Invalid("balancer", "is none of %s, %s", client.LeastRequest, client.RoundRobin))
	}
	return err
}

// clientSettingsOf resolves the levels once: clients.default, clients.<service>,
// clients.<service>.methods.<Method>; the most specific wins, value by value.
func clientSettingsOf(clients map[string]clientSettings) func(service, method string) client.Settings {
	type key struct{ service, method string }
	resolved := map[key]client.Settings{}
	for service, c := range clients {
		base := client.DefaultSettings()
		overlayClient(&base, clients[defaultClient])
		overlayClient(&base, c)
		resolved[key{service, ""}] = base
		names := map[string]bool{}
		for m := range clients[defaultClient].Methods {
			names[m] = true
		}
		for m := range c.Methods {
			names[m] = true
		}
		for m := range names {
			s := client.DefaultSettings()
			overlayClient(&s, clients[defaultClient])
			overlay(&s, clients[defaultClient].Methods[m])
			overlayClient(&s, c)
			overlay(&s, c.Methods[m])
			resolved[key{service, m}] = s
		}
	}
	fallback := client.DefaultSettings()
	if s, ok := resolved[key{defaultClient, ""}]; ok {
		fallback = s
	}
	return func(service, method string) client.Settings {
		for _, k := range []key{{service, method}, {service, ""}, {defaultClient, method}} {
			if s, ok := resolved[k]; ok {
				return s
			}
		}
		return fallback
	}
}

func overlayClient(s *client.Settings, c clientSettings) {
	if c.Balancer != "" {
		s.Balancer = c.Balancer
	}
	overlay(s, c.callSettings)
}

func overlay(s *client.Settings, c callSettings) {
	set(&s.Timeout, c.Timeout)
	set(&s.AttemptTimeout, c.AttemptTimeout)
	set(&s.Retry.MaxAttempts, c.Retry.MaxAttempts)
	set(&s.Retry.Backoff, c.Retry.Backoff)
	set(&s.Retry.MaxBackoff, c.Retry.MaxBackoff)
	set(&s.Breaker, c.Breaker)
}

// set overwrites where there is something to overwrite with.
func set[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// countClient keeps the metrics that come from the client's events.
func (a *App) countClient(e client.Event) {
	switch e := e.(type) {
	case client.CallRetried:
		a.metrics.Retries.WithLabelValues(e.Service, string(e.Reason)).Inc()
	case client.CallRejected:
		a.metrics.Rejections.WithLabelValues(e.Service, "breaker").Inc()
	}
}

func describeClient(e client.Event) string {
	switch e.(type) {
	case client.ViewChanged:
		return "instances changed"
	case client.ViewFailed:
		return "registry fails, calling the instances known last"
	case client.LastResort:
		return "no instance is healthy, calling those that are connected all the same"
	case client.CallRetried:
		return "call retried"
	case client.CallGaveUp:
		return "call not retried"
	case client.CallRejected:
		return "call held back by the breaker"
	}
	return ""
}

// levelOfClient keeps what happens for single calls out of the log unless asked
// for: the call's own line and the metrics have it.
func levelOfClient(e client.Event) zapcore.Level {
	switch e := e.(type) {
	case client.ViewChanged:
		if e.Source != registry.SourceRegistry {
			return zapcore.WarnLevel
		}
	case client.ViewFailed, client.LastResort:
		return zapcore.WarnLevel
	case client.CallRetried, client.CallGaveUp, client.CallRejected:
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

func fieldsOfClient(e client.Event) []zap.Field {
	switch e := e.(type) {
	case client.ViewChanged:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("protocol", e.Protocol),
			zap.Int("instances", e.Instances), zap.Int("listed", e.Listed), zap.Int("quarantined", e.Quarantined),
			zap.String("source", string(e.Source)), zap.Time("at", e.At), zap.Bool("first", e.First),
		}
	case client.ViewFailed:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("protocol", e.Protocol),
			zap.String("registry", e.Registry), zap.Int("kept", e.Kept), zap.String("source", string(e.Source)),
			zap.Time("at", e.At), zap.Error(e.Err),
		}
	case client.LastResort:
		return []zap.Field{zap.String("target", e.Service), zap.Int("instances", e.Instances)}
	case client.CallRetried:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("method", e.Method), zap.Int("attempt", e.Attempt),
			zap.String("on", e.Instance), zap.Duration("delay", e.Delay), zap.String("reason", string(e.Reason)), zap.Error(e.Err),
		}
	case client.CallGaveUp:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("method", e.Method), zap.Int("attempts", e.Attempts),
			zap.String("reason", string(e.Reason)), zap.Error(e.Err),
		}
	case client.CallRejected:
		return []zap.Field{zap.String("target", e.Service), zap.String("method", e.Method), zap.Error(e.Err)}
	}
	return nil
}
