package framework

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"plinth.internal/registry"
)

// countRegistry keeps the metrics that come from the registry's events.
func (a *App) countRegistry(e registry.Event) {
	failed := func(reason string, err error) {
		if err != nil {
			a.metrics.RegistryErrors.WithLabelValues(reason).Inc()
		}
	}
	switch e := e.(type) {
	case registry.AnnouncementChanged:
		failed("announce", e.Err)
	case registry.OverrideChanged:
		failed("override", e.Err)
	case registry.WatchFailed:
		failed("watch", e.Err)
	case registry.EntrySkipped:
		failed("bad_entry", e.Err)
	case registry.SnapshotRejected:
		failed("snapshot_rejected", e.Err)
	case registry.SnapshotFailed:
		failed("snapshot_failed", e.Err)
	case registry.MassLapse:
		a.metrics.MassLapses.WithLabelValues(e.Service).Inc()
	}
}

func describeRegistry(e registry.Event) string {
	switch e := e.(type) {
	case registry.AnnouncementChanged:
		if e.Err != nil && e.From == e.To {
			return "registration fails, trying on"
		}
		return "registration " + string(e.To)
	case registry.OverrideChanged:
		switch {
		case e.Err != nil:
			return "operator's override cannot be followed, the one before it stays"
		case e.Override == nil:
			return "operator's override lifted"
		}
		return "operator's override followed"
	case registry.WatchFailed:
		return "registry watch failed, the last good list stays in use"
	case registry.WatchRecovered:
		return "registry watch recovered"
	case registry.EntrySkipped:
		return "registry entry skipped"
	case registry.InstancesLapsed:
		return "instances vanished from the registry, called for as long as they answer"
	case registry.InstanceDropped:
		return "vanished instance dropped"
	case registry.MassLapse:
		return "many instances vanished from the registry at once: look at the registry rather than at them"
	case registry.SnapshotRejected:
		return "snapshot of the registry not used"
	case registry.SnapshotFailed:
		return "snapshot of the registry not written"
	}
	return ""
}

func levelOfRegistry(e registry.Event) zapcore.Level {
	switch e := e.(type) {
	case registry.AnnouncementChanged:
		if e.Err != nil {
			return zapcore.WarnLevel
		}
	case registry.MassLapse:
		return zapcore.ErrorLevel
	case registry.OverrideChanged, registry.WatchFailed, registry.EntrySkipped, registry.InstancesLapsed,
		registry.SnapshotRejected, registry.SnapshotFailed:
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

func fieldsOfRegistry(e registry.Event) []zap.Field {
	switch e := e.(type) {
	case registry.AnnouncementChanged:
		return []zap.Field{zap.String("id", e.ID), zap.String("from", string(e.From)), zap.String("to", string(e.To)), zap.Error(e.Err)}
	case registry.OverrideChanged:
		return []zap.Field{zap.String("id", e.ID), zap.Any("override", e.Override), zap.Error(e.Err)}
	case registry.WatchFailed:
		return []zap.Field{zap.String("target", e.Service), zap.Time("confirmed", e.Confirmed), zap.Error(e.Err)}
	case registry.WatchRecovered:
		return []zap.Field{zap.String("target", e.Service), zap.Int("instances", e.Instances), zap.Duration("outage", e.Outage)}
	case registry.EntrySkipped:
		return []zap.Field{zap.String("target", e.Service), zap.String("key", e.Key), zap.Error(e.Err)}
	case registry.InstancesLapsed:
		return []zap.Field{zap.String("target", e.Service), zap.Int("instances", len(e.IDs)), zap.Strings("ids", e.IDs[:min(len(e.IDs), maxLoggedIDs)])}
	case registry.InstanceDropped:
		return []zap.Field{zap.String("target", e.Service), zap.String("id", e.ID), zap.Duration("absent", e.Absent), zap.Error(e.Err)}
	case registry.MassLapse:
		return []zap.Field{zap.String("target", e.Service), zap.Int("gone", e.Gone), zap.Int("of", e.Of)}
	case registry.SnapshotRejected:
		return []zap.Field{zap.String("target", e.Service), zap.String("path", e.Path), zap.Error(e.Err)}
	case registry.SnapshotFailed:
		return []zap.Field{zap.String("target", e.Service), zap.String("path", e.Path), zap.Error(e.Err)}
	}
	return nil
}

// maxLoggedIDs bounds the length of a log line.
const maxLoggedIDs = 20
