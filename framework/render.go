package framework

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/health"
)

// emit tells the log, the metrics and the WithEvents function.
func (a *App) emit(e Event) {
	a.count(e)
	if entry := a.log.Logger().Check(levelOf(e), describe(e)); entry != nil {
		entry.Write(fieldsOf(e)...)
	}
	if a.opts.events != nil {
		a.opts.events(e)
	}
}

// count keeps the metrics that come from events.
func (a *App) count(e Event) {
	switch e := e.(type) {
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
	case Unprotected:
		return "calls are taken from other machines without TLS: give server.tls.cert_file and key_file, or set server.tls.mode to insecure if that is what you want"
	case CheckChanged:
		return "check changed"
	case HandlerPanicked:
		return "handler panicked"
	case GoroutineFailed:
		return "goroutine failed, it is started again"
	case SpansLost:
		return "spans lost"
	case Stopping:
		return "stopping"
	case PhaseEnded:
		return "stop phase ended"
	case Stopped:
		return "stopped"
	}
	return ""
}

func levelOf(e Event) zapcore.Level {
	switch e := e.(type) {
	case Waiting, Unregistered, Unprotected, SnapshotsOff, GoroutineFailed, SpansLost:
		return zapcore.WarnLevel
	case HandlerPanicked:
		return zapcore.ErrorLevel
	case RegistryEvent:
		return levelOfRegistry(e.Event)
	case ClientEvent:
		return levelOfClient(e.Event)
	case ConfigEvent:
		return levelOfConfig(e.Event)
	case ServerEvent:
		return levelOfServer(e.Event)
	case CheckChanged:
		if e.Result.Status != health.StatusOK {
			return zapcore.WarnLevel
		}
	case PhaseEnded:
		if e.Err != nil {
			return zapcore.WarnLevel
		}
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
	case Unprotected:
		return []zap.Field{zap.Strings("listeners", e.Listeners)}
	case CheckChanged:
		return []zap.Field{
			zap.String("check", e.Result.Name), zap.String("status", string(e.Result.Status)),
			zap.Bool("critical", e.Result.Critical), zap.String("error", e.Result.Error),
		}
	case HandlerPanicked:
		return []zap.Field{
			zap.String("method", e.Method), zap.String("trace_id", e.TraceID),
			zap.Any("panic", e.Value), zap.ByteString("stack", e.Stack),
		}
	case GoroutineFailed:
		return []zap.Field{zap.String("name", e.Name), zap.Error(e.Err), zap.Duration("restart", e.Restart)}
	case SpansLost:
		return []zap.Field{zap.Error(e.Err)}
	case Stopping:
		return []zap.Field{zap.String("reason", e.Reason)}
	case PhaseEnded:
		return []zap.Field{zap.String("phase", e.Phase), zap.Duration("took", e.Took), zap.Error(e.Err)}
	case Stopped:
		return []zap.Field{zap.Duration("took", e.Took), zap.Error(e.Err)}
	}
	return nil
}
