package log

import (
	"fmt"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// SetFormat changes the format at run time: json, console or auto; "" means auto.
// Every logger that was made before follows. Any other format is an error and
// changes nothing.
func (l *Log) SetFormat(format string) error {
	if _, err := l.write(format); err != nil {
		return fmt.Errorf("set log format: %w", err)
	}
	return nil
}

// Format is the format in use, json or console: auto has become one of them.
func (l *Log) Format() string { return l.output.Load().format }

// write has lines written in a format from now on.
func (l *Log) write(format string) (*output, error) {
	if format == FormatAuto || format == "" {
		format = FormatJSON
		if l.terminal {
			format = FormatConsole
		}
	}
	encoder, err := newEncoder(format)
	if err != nil {
		return nil, err
	}
	o := &output{zapcore.NewCore(encoder, l.sink, l.level), format}
	l.output.Store(o)
	return o, nil
}

func newEncoder(format string) (zapcore.Encoder, error) {
	cfg := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "msg", StacktraceKey: "stack",
		EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder, EncodeCaller: zapcore.ShortCallerEncoder,
		LineEnding: zapcore.DefaultLineEnding,
	}
	switch format {
	case FormatJSON:
		return zapcore.NewJSONEncoder(cfg), nil
	case FormatConsole:
		cfg.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		cfg.EncodeLevel = zapcore.CapitalLevelEncoder
		cfg.EncodeDuration = zapcore.StringDurationEncoder
		return zapcore.NewConsoleEncoder(cfg), nil
	}
	return nil, fmt.Errorf("format %q is none of json, console, auto", format)
}

// output is where lines go in one format.
type output struct {
	zapcore.Core

	format string
}

// core writes in the format of the moment. Zap encodes the fields of a logger when
// it is made; one from before a change encodes its fields again, once.
type core struct {
	zapcore.LevelEnabler

	current *atomic.Pointer[output] // of the [Log]
	parent  *core                   // nil for the first one
	fields  []zap.Field             // beside the parent's

	made   *output                // the one in use when the core was made
	first  zapcore.Core           // in its format, with all fields
	remade atomic.Pointer[remade] // the same in a later format
}

type remade struct {
	by   *output
	core zapcore.Core
}

// in is the core of zap's that writes to o.
func (c *core) in(o *output) zapcore.Core {
	if c.made == o {
		return c.first
	}
	if r := c.remade.Load(); r != nil && r.by == o {
		return r.core
	}
	again := o.Core
	if c.parent != nil {
		again = c.parent.in(o).With(c.fields)
	}
	c.remade.Store(&remade{o, again})
	return again
}

// Level is the lowest level that is logged.
func (c *core) Level() zapcore.Level { return zapcore.LevelOf(c.LevelEnabler) }

func (c *core) With(fields []zap.Field) zapcore.Core {
	o := c.current.Load()
	return &core{LevelEnabler: c.LevelEnabler, current: c.current, parent: c, fields: slices.Clone(fields), made: o, first: c.in(o).With(fields)}
}

func (c *core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *core) Write(e zapcore.Entry, fields []zap.Field) error {
	return c.in(c.current.Load()).Write(e, fields)
}

func (c *core) Sync() error { return c.current.Load().Sync() }
