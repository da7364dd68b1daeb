// Package logging writes one line for every call, with the trace in it and never
// the payload, and gives handlers a logger that knows their trace.
//
// The level is looked at before anything is put together, and the fields are
// pooled, so that a line that is not written costs next to nothing.
package logging

import (
	"context"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"

	"plinth.internal/log"
	"plinth.internal/middleware"
)

// Server logs the calls received: at info, at warn where the server could not
// serve (UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED), at error where it
// is at fault; a method that is not there is not its fault. Health checks and reflection are logged at debug, and so is what is
// turned away before anything is done for it ([middleware.IsUnprocessed]). In the
// handler's context [log.From] finds the logger.
func Server(l *log.Log) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			err := next(l.IntoCall(ctx, call), call)
			code := middleware.Code(err)
			write(ctx, l, serverLevel(call, code, err), "call received", call, code, err)
			return err
		}
	}
}

// Client logs the calls made: at debug where the first attempt went well, else
// at info, with the number of attempts, so that retries never hide a sick
// server.
func Client(l *log.Log) middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			err := next(ctx, call)
			code := middleware.Code(err)
			level := zapcore.DebugLevel
			if code != codes.OK || call.Attempts > 1 {
				level = zapcore.InfoLevel
			}
			write(ctx, l, level, "call made", call, code, err)
			return err
		}
	}
}

func serverLevel(call *middleware.Call, code codes.Code, err error) zapcore.Level {
	switch {
	case code == codes.ResourceExhausted && middleware.IsUnprocessed(err):
		return zapcore.DebugLevel
	case strings.HasPrefix(call.Service, "grpc.health.") || strings.HasPrefix(call.Service, "grpc.reflection."):
		return zapcore.DebugLevel
	case code == codes.Unimplemented && call.Method == middleware.Unmatched:
		return zapcore.InfoLevel // as a 404: whoever likes may ask for what is not there
	case code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.ResourceExhausted:
		return zapcore.WarnLevel
	case middleware.ServerFault(code):
		return zapcore.ErrorLevel
	}
	return zapcore.InfoLevel
}

var fieldPool = sync.Pool{New: func() any {
	fields := make([]zap.Field, 0, 16)
	return &fields
}}

func write(ctx context.Context, l *log.Log, level zapcore.Level, msg string, call *middleware.Call, code codes.Code, err error) {
	entry := l.Logger().Check(level, msg)
	if entry == nil {
		return
	}
	pooled, _ := fieldPool.Get().(*[]zap.Field)
	fields := (*pooled)[:0]
	fields = append(fields, zap.String("method", call.FullMethod()), zap.String("code", middleware.CodeName(code)))
	if call.Kind.HTTP() {
		fields = append(fields, zap.Int("status", middleware.HTTPStatusOf(err)))
	}
	fields = append(fields, zap.Float64("duration_ms", float64(time.Since(call.Start))/float64(time.Millisecond)))
	if call.Kind.Server() {
		fields = append(fields, zap.String("peer", call.Peer()))
		if call.Caller != "" {
			fields = append(fields, zap.String("caller", call.Caller))
		}
	} else {
		fields = append(fields, zap.String("target", call.Target), zap.String("instance", call.Instance), zap.Int("attempts", call.Attempts))
	}
	if call.TraceID != "" {
		fields = append(fields, zap.String("trace_id", call.TraceID))
	} else {
		fields = l.TraceFields(ctx, fields)
	}
	if err != nil {
		fields = append(fields, zap.String("error", err.Error()))
	}
	entry.Write(fields...)
	clear(fields)
	*pooled = fields
	fieldPool.Put(pooled)
}
