package log

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Slog is a [slog.Logger] that writes through l, at l's level, with the trace
// of the context it is called with: for libraries and code that speak slog.
func (l *Log) Slog() *slog.Logger {
	return slog.New(&slogHandler{log: l, core: l.logger.Core()})
}

// slogHandler is immutable. The fields of WithAttrs are kept rather than made
// part of the core, so that the IDs of a line's trace can stand before them:
// outside of every group.
type slogHandler struct {
	log    *Log
	core   zapcore.Core
	fields []zap.Field // of WithAttrs, with the groups that they are in
	groups []string    // opened by WithGroup after the last of the fields
}

func (h *slogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.core.Enabled(zapLevel(level))
}

func (h *slogHandler) Handle(ctx context.Context, r slog.Record) error {
	entry := zapcore.Entry{Level: zapLevel(r.Level), Time: r.Time, Message: r.Message}
	fields := make([]zap.Field, 0, 2+len(h.fields)+len(h.groups)+r.NumAttrs())
	fields = append(h.log.TraceFields(ctx, fields), h.fields...)
	fields = h.inGroups(fields, func(fields []zap.Field) []zap.Field {
		r.Attrs(func(a slog.Attr) bool {
			fields = appendAttr(fields, a)
			return true
		})
		return fields
	})
	return h.core.Write(entry, fields)
}

// inGroups appends what add appends, in the open groups. slog leaves out groups
// with nothing in them.
func (h *slogHandler) inGroups(fields []zap.Field, add func([]zap.Field) []zap.Field) []zap.Field {
	n := len(fields)
	for _, g := range h.groups {
		fields = append(fields, zap.Namespace(g))
	}
	opened := len(fields)
	if fields = add(fields); len(fields) == opened {
		return fields[:n]
	}
	return fields
}

func (h *slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	fields := h.inGroups(slices.Clip(h.fields), func(fields []zap.Field) []zap.Field {
		for _, a := range attrs {
			fields = appendAttr(fields, a)
		}
		return fields
	})
	if len(fields) == len(h.fields) {
		return h
	}
	return &slogHandler{log: h.log, core: h.core, fields: fields}
}

func (h *slogHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &slogHandler{log: h.log, core: h.core, fields: h.fields, groups: append(slices.Clip(h.groups), name)}
}

func appendAttr(fields []zap.Field, a slog.Attr) []zap.Field {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return fields
	}
	switch v.Kind() {
	case slog.KindString:
		return append(fields, zap.String(a.Key, v.String()))
	case slog.KindInt64:
		return append(fields, zap.Int64(a.Key, v.Int64()))
	case slog.KindUint64:
		return append(fields, zap.Uint64(a.Key, v.Uint64()))
	case slog.KindFloat64:
		return append(fields, zap.Float64(a.Key, v.Float64()))
	case slog.KindBool:
		return append(fields, zap.Bool(a.Key, v.Bool()))
	case slog.KindDuration:
		return append(fields, zap.Duration(a.Key, v.Duration()))
	case slog.KindTime:
		return append(fields, zap.Time(a.Key, v.Time()))
	case slog.KindGroup:
		var inner []zap.Field
		for _, g := range v.Group() {
			inner = appendAttr(inner, g)
		}
		switch {
		case len(inner) == 0:
			return fields
		case a.Key == "": // slog inlines a group without a name
			return append(fields, inner...)
		}
		return append(fields, zap.Dict(a.Key, inner...))
	}
	return append(fields, zap.Any(a.Key, v.Any()))
}

func zapLevel(l slog.Level) zapcore.Level {
	switch {
	case l < slog.LevelInfo:
		return zapcore.DebugLevel
	case l < slog.LevelWarn:
		return zapcore.InfoLevel
	case l < slog.LevelError:
		return zapcore.WarnLevel
	}
	return zapcore.ErrorLevel
}
