package framework

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/client"
	"plinth.internal/internal/errtext"
	"plinth.internal/registry"
)

// countClient keeps the metrics that come from the client's events.
func (a *App) countClient(e client.Event) {
	switch e := e.(type) {
	case client.CallRetried:
		a.metrics.Retries.WithLabelValues(e.Service, string(e.Reason)).Inc()
	case client.CallRejected:
		a.metrics.Rejections.WithLabelValues(e.Service, "breaker").Inc()
	case client.CallUnplaced:
		a.metrics.Rejections.WithLabelValues(e.Service, "nobody").Inc()
	case client.CallBounced:
		a.metrics.Bounces.WithLabelValues(e.Service).Inc()
	case client.CallHedged:
		outcome := "lost"
		if e.Won {
			outcome = "won"
		}
		a.metrics.Hedges.WithLabelValues(e.Service, outcome).Inc()
	case client.RouteFellBack:
		outcome := "elsewhere"
		if e.Failed {
			outcome = "failed"
		}
		a.metrics.RouteFallbacks.WithLabelValues(e.Service, e.Route, outcome).Inc()
	case client.MiddlewarePanicked:
		a.metrics.ClientPanics.WithLabelValues(e.Service).Inc()
	case client.TLSReloaded:
		a.metrics.CountTLSReload("client", reloadApplied)
	case client.TLSRejected:
		a.metrics.CountTLSReload("client", reloadRejected)
	case client.InstanceEjected:
		a.metrics.Ejections.WithLabelValues(e.Service, e.Reason).Inc()
	}
}

func describeClient(e client.Event) string {
	switch e := e.(type) {
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
	case client.CallFailed:
		return "call failed"
	case client.CallRejected:
		return "call held back by the breaker"
	case client.CallUnplaced:
		return "call not sent, nobody could be called"
	case client.CallBounced:
		return "call handed back by a busy instance"
	case client.CallHedged:
		return "call sent to a second instance"
	case client.InstanceEjected:
		return "instance ejected"
	case client.InstanceReturned:
		return "instance returned"
	case client.ConnectionFailed:
		return "instance cannot be connected to"
	case client.RouteFellBack:
		return "no instance left for a route"
	case client.TLSReloaded:
		return "certificates for calls changed"
	case client.TLSRejected:
		if !e.Kept {
			return "certificates for calls cannot be used, new connections fail until they can"
		}
		return "certificates for calls rejected, the last good ones stay in use"
	case client.MiddlewarePanicked:
		return "a middleware of a client panicked"
	case client.TokenExposed:
		return "tokens are sent without TLS, anybody on the way can take them: set the tls.mode of these calls to tls or mtls"
	case client.TokenRejected:
		return "file with the token for calls cannot be used, what it held last stays in use"
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
	case client.ViewFailed, client.LastResort, client.InstanceEjected, client.ConnectionFailed, client.TLSRejected, client.TokenExposed, client.TokenRejected:
		return zapcore.WarnLevel
	case client.RouteFellBack:
		if e.First {
			return zapcore.WarnLevel
		}
		return zapcore.DebugLevel
	case client.CallRetried, client.CallGaveUp, client.CallFailed, client.CallRejected, client.CallUnplaced, client.CallBounced, client.CallHedged:
		return zapcore.DebugLevel
	case client.MiddlewarePanicked:
		return zapcore.ErrorLevel
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
			zap.String("on", e.Instance), zap.String("reason", string(e.Reason)), zap.Error(e.Err),
		}
	case client.CallFailed:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("method", e.Method), zap.String("on", e.Instance),
			zap.String("reason", string(e.Reason)), zap.Error(e.Err),
		}
	case client.CallRejected:
		return []zap.Field{zap.String("target", e.Service), zap.String("method", e.Method), zap.Error(e.Err)}
	case client.CallUnplaced:
		return []zap.Field{zap.String("target", e.Service), zap.String("method", e.Method), zap.Error(e.Err)}
	case client.CallBounced:
		return []zap.Field{zap.String("target", e.Service), zap.String("method", e.Method), zap.String("on", e.Instance)}
	case client.CallHedged:
		return []zap.Field{zap.String("target", e.Service), zap.String("method", e.Method), zap.Duration("after", e.After), zap.Bool("won", e.Won)}
	case client.InstanceEjected:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("protocol", e.Protocol), zap.String("on", e.Instance), zap.String("addr", e.Addr),
			zap.String("reason", e.Reason), zap.Float64("share", e.Share), zap.Int("run", e.Run), zap.Duration("for", e.For), zap.Int("times", e.Times),
			zap.Bool("kept_out", e.KeptOut),
		}
	case client.ConnectionFailed:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("protocol", e.Protocol), zap.String("on", e.Instance), zap.String("addr", e.Addr), zap.Error(e.Err),
		}
	case client.RouteFellBack:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("protocol", e.Protocol), zap.String("route", e.Route), zap.String("wanted", e.Wanted),
			zap.String("reason", string(e.Reason)), zap.Bool("failed", e.Failed),
		}
	case client.TLSReloaded, client.TLSRejected:
		return fieldsOfClientTLS(e)
	case client.MiddlewarePanicked:
		return []zap.Field{
			zap.String("target", e.Service), zap.String("method", e.Method), zap.String("trace_id", e.TraceID),
			zap.String("panic", errtext.Value(e.Value)), zap.ByteString("stack", e.Stack),
		}
	case client.TokenExposed:
		return []zap.Field{zap.String("target", e.Service)}
	case client.TokenRejected:
		return []zap.Field{zap.String("target", e.Service), zap.String("file", e.File), zap.Error(e.Err)}
	case client.InstanceReturned:
		return []zap.Field{zap.String("target", e.Service), zap.String("protocol", e.Protocol), zap.String("on", e.Instance), zap.String("addr", e.Addr)}
	}
	return nil
}
