package framework

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/config"
)

// configCheck is the name of the configuration among the checks of /health, and
// of the goroutine that follows it.
const configCheck = "config"

// The outcomes of a reload in metrics and on /debug/config.
const (
	reloadApplied  = "applied"
	reloadRejected = "rejected"
	reloadFellBack = "fallback" // at the start
)

// followsConfig reports whether there is anything that can change.
func (a *App) followsConfig() bool { return a.opts.configFile != "" || a.hasFeed() }

// followConfig takes over what changes in the file and in the central documents
// while the app runs.
func (a *App) followConfig(ctx context.Context) error {
	a.cfg.Follow(ctx, func(e config.Event) { a.emit(ConfigEvent{e}) })
	return nil
}

// applySettings brings hot settings into effect. Those of the client are read
// anew for every call.
func (a *App) applySettings(old, current settings) {
	a.clients.Store(newClientTable(current.Clients))
	// A level that was set by hand stays until the file names another one.
	if level := current.Telemetry.Log.Level; level != old.Telemetry.Log.Level {
		_ = a.log.SetLevel(level) // validated with the rest
	}
	if format := current.Telemetry.Log.Format; format != old.Telemetry.Log.Format { // loggers encode their fields anew
		_ = a.log.SetFormat(format) // likewise
	}
	_ = a.tracer.SetSample(current.Telemetry.Trace.Sample) // likewise
	a.applyAuth(&current.Server.Auth)
	a.applyLimit(&current.Server.Limit)
	a.applyFaults(old.Server.Fault, current.Server.Fault)
	a.latest.Store(&current.Server)
	if a.unserved.Load() != nil { // before that setup may not have registered everything
		a.checkMethods(&current.Server)
	}
	if a.idleKeys.Load() != nil { // before that the listeners are not bound
		a.tellIdle()
	}
}

// configHealth is the configuration as one of the checks: it is down while the
// file or a central document holds something that cannot be used, and while the
// app runs without central documents that it could not read at its start.
func (a *App) configHealth() CheckHealth {
	status := a.cfg.Status()
	c := CheckHealth{Name: configCheck, Status: HealthOK, CheckedAt: stamp(status.At)}
	if status.Err != nil {
		c.Status, c.Error = HealthDown, text(status.Err)
	}
	return c
}

// ConfigDocument is what /debug/config answers.
type ConfigDocument struct {
	// File is the configuration file, "" for none.
	File string `json:"file"`
	// Central are the documents outside of the process, nil where there are none.
	Central *FeedDocument `json:"central"`
	// Reload is how the last reload ended.
	Reload ReloadDocument `json:"reload"`
	// Restart are the keys that have been given another value since the start
	// and need a restart. What is shown is the running value.
	Restart []string `json:"restart"`
	// Warnings are what is in effect, but probably not as it was meant: rules for
	// methods that the service does not have.
	Warnings []string `json:"warnings"`
	// Values are the effective values by key.
	Values map[string]ConfigValue `json:"values"`
}

// ReloadDocument is a reload in a [ConfigDocument].
type ReloadDocument struct {
	// At is when it ended, "" before the first one.
	At string `json:"at"`
	// Outcome is applied or rejected, "" before the first one.
	Outcome string `json:"outcome"`
	// Error is why it was rejected.
	Error string `json:"error"`
}

// ConfigValue is one value in a [ConfigDocument].
type ConfigValue struct {
	// Value is the value as it would be written, a secret as "***".
	Value string `json:"value"`
	// Effective is what the value stands for, where that is something else: of a
	// key that is not set, most often. "" where it is the value itself.
	Effective string `json:"effective,omitempty"`
	// Idle is why the value does nothing, "" where it does something.
	Idle string `json:"idle,omitempty"`
	// Source is where it came from.
	Source string `json:"source"`
	// Hot says that a change applies while the service runs.
	Hot bool `json:"hot"`
}

func (a *App) configuration() ConfigDocument {
	status := a.cfg.Status()
	doc := ConfigDocument{
		File: a.opts.configFile, Central: a.feedDocument(status), Reload: ReloadDocument{At: stamp(status.At), Error: text(status.Err)},
		Restart: append([]string{}, status.Restart...), Warnings: a.warnings(), Values: map[string]ConfigValue{},
	}
	switch {
	case status.Err != nil:
		doc.Reload.Outcome = reloadRejected
	case !status.At.IsZero():
		doc.Reload.Outcome = reloadApplied
	}
	now := a.effective()
	effective, idle := config.Written(now), map[string]string{}
	for _, i := range a.idle(&now) {
		for _, key := range i.Keys {
			idle[key] = i.Because
		}
	}
	for _, e := range a.cfg.Entries() {
		v := ConfigValue{Value: e.Value, Source: e.Source.String(), Hot: e.Hot, Idle: idle[e.Key]}
		if now, ok := effective[e.Key]; ok && now != e.Value {
			v.Effective = now
		}
		doc.Values[e.Key] = v
	}
	return doc
}

// countConfig keeps the metrics that come from the configuration's events.
func (a *App) countConfig(e config.Event) {
	switch e.(type) {
	case config.Applied:
		a.metrics.CountReload(reloadApplied)
	case config.Rejected:
		a.metrics.CountReload(reloadRejected)
	case config.FellBack:
		a.metrics.CountReload(reloadFellBack)
	}
}

func describeConfig(e config.Event) string {
	switch e := e.(type) {
	case config.Applied:
		if len(e.Keys) == 0 { // those that changed need a restart, or the same values stand elsewhere
			return "configuration read again, nothing that is in use has changed"
		}
		return "configuration changed"
	case config.Rejected:
		return "configuration rejected, the last good one stays in use"
	case config.RestartNeeded:
		return "configuration changed in keys that need a restart"
	case config.FellBack:
		return "started without central configuration as it is now, the last good one on disk is in use where there is one"
	case config.SnapshotRejected:
		return "central configuration on disk not used"
	case config.SnapshotFailed:
		return "central configuration not written to disk"
	}
	return ""
}

func levelOfConfig(e config.Event) zapcore.Level {
	if _, ok := e.(config.Applied); ok {
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}

func fieldsOfConfig(e config.Event) []zap.Field {
	switch e := e.(type) {
	case config.Applied:
		return []zap.Field{zap.Strings("keys", e.Keys), zap.Strings("documents", e.Documents)}
	case config.Rejected:
		return []zap.Field{zap.Error(e.Err)}
	case config.RestartNeeded:
		return []zap.Field{zap.Strings("keys", e.Keys)}
	case config.FellBack:
		return []zap.Field{zap.Strings("documents", e.Documents), zap.Error(e.Err)}
	case config.SnapshotRejected:
		return []zap.Field{zap.String("path", e.Path), zap.Error(e.Err)}
	case config.SnapshotFailed:
		return []zap.Field{zap.String("path", e.Path), zap.Error(e.Err)}
	}
	return nil
}
