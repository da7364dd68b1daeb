// Package log builds the process' zap logger: JSON lines for programs, console
// lines for a person at a terminal, a level and a format that can change at run
// time, and the trace of a context in every line that is logged through [From] or
// slog.
//
// Guarantees: nothing here touches zap's or slog's process-wide loggers; a
// [Log] may be used by any number of goroutines; a line is written with one
// Write and is not buffered, so a crash loses none. A writer that does not return
// holds up its callers.
package log

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Formats of a line. FormatAuto is console on a terminal and JSON elsewhere.
const (
	FormatAuto    = "auto"
	FormatJSON    = "json"
	FormatConsole = "console"
)

// Config says what is logged, how and where.
type Config struct {
	// Level is debug, info, warn or error; "" means info.
	Level string
	// Format is json, console or auto; "" means auto.
	Format string
	// Output takes the lines; nil means standard error.
	Output io.Writer
	// Fields are in every line, for instance the service's name.
	Fields []zap.Field
	// IDs tells the trace ID and the span ID of a context, each "" where
	// there is none. Nil logs neither.
	IDs func(ctx context.Context) (traceID, spanID string)
}

// Log is a logger, and the level and the format it logs in.
type Log struct {
	logger   *zap.Logger
	level    zap.AtomicLevel
	ids      func(ctx context.Context) (traceID, spanID string)
	sink     zapcore.WriteSyncer
	terminal bool                   // the sink is one
	output   atomic.Pointer[output] // to the sink, in the format of the moment
}

// New builds a logger. It errs on a level or a format that does not exist.
func New(cfg Config) (*Log, error) {
	l := &Log{level: zap.NewAtomicLevel(), ids: cfg.IDs}
	if err := l.SetLevel(cfg.Level); err != nil {
		return nil, err
	}
	out := cfg.Output
	if out == nil {
		out = os.Stderr
	}
	l.terminal = isTerminal(out)
	l.sink = zapcore.Lock(zapcore.AddSync(out)) // one lock for lines and for zap's own complaints
	o, err := l.write(cfg.Format)
	if err != nil {
		return nil, fmt.Errorf("build logger: %w", err)
	}
	l.logger = zap.New(&core{LevelEnabler: l.level, current: &l.output, made: o, first: o.Core}, zap.ErrorOutput(l.sink)).With(cfg.Fields...)
	return l, nil
}

// Logger is the plain logger, without a trace.
func (l *Log) Logger() *zap.Logger { return l.logger }

// Level is the level in use.
func (l *Log) Level() string { return l.level.String() }

// SetLevel changes the level at run time: debug, info, warn or error; "" means
// info. Any other level is an error and changes nothing.
func (l *Log) SetLevel(level string) error {
	var lv zapcore.Level
	switch strings.ToLower(level) {
	case "debug":
		lv = zapcore.DebugLevel
	case "", "info":
		lv = zapcore.InfoLevel
	case "warn":
		lv = zapcore.WarnLevel
	case "error":
		lv = zapcore.ErrorLevel
	default:
		return fmt.Errorf("set log level: %q is none of debug, info, warn, error", level)
	}
	l.level.SetLevel(lv)
	return nil
}

// Traced is the logger with the IDs of the trace in ctx.
func (l *Log) Traced(ctx context.Context) *zap.Logger {
	if fields := l.TraceFields(ctx, nil); len(fields) > 0 {
		return l.logger.With(fields...)
	}
	return l.logger
}

// TraceFields appends the IDs of the trace in ctx to fields.
func (l *Log) TraceFields(ctx context.Context, fields []zap.Field) []zap.Field {
	if l.ids == nil {
		return fields
	}
	traceID, spanID := l.ids(ctx)
	if traceID != "" {
		fields = append(fields, zap.String("trace_id", traceID))
	}
	if spanID != "" {
		fields = append(fields, zap.String("span_id", spanID))
	}
	return fields
}

type contextKey struct{}

// Into returns a context that carries l for [From].
func (l *Log) Into(ctx context.Context) context.Context {
	return context.WithValue(ctx, contextKey{}, l)
}

// Values makes contexts that carry a value, as [context.WithValue] does: a
// middleware.Call, which has room for some.
type Values interface {
	WithValue(ctx context.Context, key, value any) context.Context
}

// IntoCall is [Log.Into] for the context of a call.
func (l *Log) IntoCall(ctx context.Context, call Values) context.Context {
	return call.WithValue(ctx, contextKey{}, l)
}

// From is the logger that a context carries, with the IDs of the context's
// trace. In a handler that a Plinth server called it is the service's logger;
// in a context that carries none it is a logger that discards.
func From(ctx context.Context) *zap.Logger {
	if l, ok := ctx.Value(contextKey{}).(*Log); ok {
		return l.Traced(ctx)
	}
	return zap.NewNop()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
