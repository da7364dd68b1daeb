package framework

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/config"
	"plinth.internal/health"
	"plinth.internal/internal/errtext"
)

// emit tells the log, the metrics and the WithEvents function.
func (a *App) emit(e Event) {
	a.count(e)
	if entry := a.log.Logger().Check(levelOf(e), describe(e)); entry != nil {
		entry.Write(maskErrors(fieldsOf(e))...)
	}
	if a.opts.events != nil {
		a.opts.events(e)
	}
}

// maskErrors hides passwords in the URLs that errors name, as text does.
func maskErrors(fields []zap.Field) []zap.Field {
	for i, f := range fields {
		switch err, ok := f.Interface.(error); {
		case f.Type == zapcore.ErrorType && ok:
			fields[i] = zap.String(f.Key, text(err))
		case f.Type == zapcore.StringType:
			fields[i].String = config.Mask(f.String)
		}
	}
	return fields
}

// count keeps the metrics that come from events.
func (a *App) count(e Event) {
	switch e := e.(type) {
	case GoroutineFailed:
		a.metrics.CountGoroutineFailure(e.Name)
	case HandlerPanicked:
		a.metrics.Panics.WithLabelValues(e.Method).Inc()
	case RegistryEvent:
		a.countRegistry(e.Event)
	case ClientEvent:
		a.countClient(e.Event)
	case ConfigEvent:
		a.countConfig(e.Event)
	case ServerEvent:
		a.countServer(e.Event)
	case AuthEvent:
		a.countAuth(e.Event)
	}
}

// describe is the message of an event's log line; "" never happens for an event
// of this package, which a test holds.
func describe(e Event) string {
	switch e := e.(type) {
	case Listening:
		return "listening"
	case Waiting:
		return "not ready yet"
	case Ready:
		return "ready"
	case Unregistered:
		return "not registered: no registry is configured; set registry.endpoints to be found by other services"
	case SnapshotsOff:
		return "no snapshots of the registry are kept; set registry.snapshot_dir to a directory, or to off"
	case RegistryEvent:
		return describeRegistry(e.Event)
	case ClientEvent:
		return describeClient(e.Event)
	case ConfigEvent:
		return describeConfig(e.Event)
	case ServerEvent:
		return describeServer(e.Event)
	case AuthEvent:
		return describeAuth(e.Event)
	case LimitEvent:
		return describeLimit(e.Event)
	case SettingsIdle:
		return "settings without effect"
	case AuthOff:
		return "calls are not checked for who makes them: server.auth.mode is off, although the service declares who may call"
	case MethodUnserved:
		return "a rule is for a method or route that this service does not have, and does nothing"
	case Unprotected:
		return "calls are taken from other machines without TLS: give server.tls.cert_file and key_file, or set server.tls.mode to insecure if that is what you want"
	case CheckChanged:
		return "check changed"
	case HeartbeatStuck:
		return "heartbeat is overdue, this is where its goroutine is"
	case HandlerPanicked:
		return "handler panicked"
	case GoroutineFailed, LeadershipChanged, CampaignFailed, JobRan, PhaseEnded, DumpKept:
		return describeLifecycle(e)
	case FaultsChanged:
		return "faults on demand are allowed: calls fail on purpose by these rules"
	case SpansLost:
		return "spans lost"
	case Stopping:
		return "stopping"
	case Stopped:
		return "stopped"
	}
	return ""
}

func levelOf(e Event) zapcore.Level {
	switch e := e.(type) {
	case Waiting, Unregistered, Unprotected, AuthOff, MethodUnserved, SettingsIdle, SnapshotsOff, GoroutineFailed, SpansLost, FaultsChanged:
		return zapcore.WarnLevel
	case HandlerPanicked, HeartbeatStuck:
		return zapcore.ErrorLevel
	case RegistryEvent:
		return levelOfRegistry(e.Event)
	case ClientEvent:
		return levelOfClient(e.Event)
	case ConfigEvent:
		return levelOfConfig(e.Event)
	case ServerEvent:
		return levelOfServer(e.Event)
	case AuthEvent:
		return levelOfAuth(e.Event)
	case LimitEvent:
		return levelOfLimit(e.Event)
	case CheckChanged:
		if e.Result.Status != health.StatusOK {
			return zapcore.WarnLevel
		}
	case LeadershipChanged, CampaignFailed, JobRan, PhaseEnded, DumpKept:
		return levelOfLifecycle(e)
	case Stopped:
		if e.Err != nil {
			return zapcore.ErrorLevel
		}
	}
	return zapcore.InfoLevel
}

func fieldsOf(e Event) []zap.Field {
	switch e := e.(type) {
	case Listening:
		return []zap.Field{zap.Any("endpoints", e.Endpoints)}
	case Waiting:
		return []zap.Field{zap.Error(e.Err)}
	case Ready:
		return []zap.Field{zap.Duration("took", e.Took)}
	case SnapshotsOff:
		return []zap.Field{zap.Error(e.Err)}
	case RegistryEvent:
		return fieldsOfRegistry(e.Event)
	case ClientEvent:
		return fieldsOfClient(e.Event)
	case ConfigEvent:
		return fieldsOfConfig(e.Event)
	case ServerEvent:
		return fieldsOfServer(e.Event)
	case AuthEvent:
		return fieldsOfAuth(e.Event)
	case LimitEvent:
		return fieldsOfLimit(e.Event)
	case MethodUnserved:
		return []zap.Field{zap.String("key", e.Key), zap.String("place", e.Place), zap.String("method", e.Method), zap.String("nearest", e.Nearest)}
	case SettingsIdle:
		return []zap.Field{zap.Strings("keys", e.Keys), zap.Strings("places", e.Places), zap.String("because", e.Because)}
	case Unprotected:
		return []zap.Field{zap.Strings("listeners", e.Listeners)}
	case CheckChanged:
		return fieldsOfCheck(e.Result)
	case HeartbeatStuck:
		return fieldsOfStuck(e.Stuck)
	case HandlerPanicked:
		return []zap.Field{
			zap.String("method", e.Method), zap.String("trace_id", e.TraceID),
			zap.String("panic", errtext.Value(e.Value)), zap.ByteString("stack", e.Stack),
		}
	case GoroutineFailed, LeadershipChanged, CampaignFailed, JobRan, PhaseEnded, DumpKept:
		return fieldsOfLifecycle(e)
	case FaultsChanged:
		return []zap.Field{zap.Strings("rules", e.Rules), zap.Bool("headers", e.Headers)}
	case SpansLost:
		return []zap.Field{zap.Error(e.Err)}
	case Stopping:
		return []zap.Field{zap.String("reason", e.Reason)}
	case Stopped:
		return []zap.Field{zap.Duration("took", e.Took), zap.Error(e.Err)}
	}
	return nil
}
