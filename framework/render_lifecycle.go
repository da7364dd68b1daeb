package framework

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func describeLifecycle(e Event) string {
	switch e := e.(type) {
	case GoroutineFailed:
		switch e.Policy {
		case RestartNever:
			return "goroutine failed, it is not started again"
		case StopOnFailure:
			return "goroutine failed, the app stops"
		default:
			return "goroutine failed, it is started again"
		}
	case LeadershipChanged:
		if e.Leading {
			return "this instance runs the job from now on"
		}
		return "this instance no longer runs the job"
	case CampaignFailed:
		return "this instance cannot stand for running the job, it tries on"
	case JobRan:
		return "job run ended"
	case PhaseEnded:
		return e.Stage + " phase ended"
	case DumpKept:
		return "the stop takes too long: what the process does is kept in files"
	}
	return ""
}

func levelOfLifecycle(e Event) zapcore.Level {
	bad := false
	switch e := e.(type) {
	case LeadershipChanged:
		bad = e.Err != nil
	case PhaseEnded:
		bad = e.Err != nil
	case JobRan:
		switch {
		case e.Stack != nil:
			return zapcore.ErrorLevel
		case e.Err == nil:
			return zapcore.DebugLevel
		case e.Outcome == runCutShort:
			return zapcore.InfoLevel
		}
		bad = true
	case CampaignFailed, DumpKept:
		bad = true
	}
	if bad {
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

func fieldsOfLifecycle(e Event) []zap.Field {
	switch e := e.(type) {
	case GoroutineFailed:
		fields := []zap.Field{zap.String("name", e.Name), zap.Error(e.Err)}
		if e.Policy == RestartOnFailure || e.Policy == RestartAlways {
			fields = append(fields, zap.Duration("restart", e.Restart))
		}
		return append(fields, stackField(e.Stack))
	case LeadershipChanged:
		return []zap.Field{zap.String("job", e.Job), zap.Int64("fence", e.Fence), zap.Error(e.Err)}
	case CampaignFailed:
		return []zap.Field{zap.String("job", e.Job), zap.Error(e.Err)}
	case JobRan:
		return []zap.Field{
			zap.String("job", e.Job), zap.String("outcome", e.Outcome), zap.Duration("took", e.Took), zap.Error(e.Err), stackField(e.Stack),
		}
	case PhaseEnded:
		fields := []zap.Field{zap.String("phase", e.Phase), zap.Time("began", e.Began), zap.Duration("took", e.Took), zap.Error(e.Err)}
		if e.Late != nil {
			fields = append(fields, zap.Int64("late_calls", e.Late.Calls), zap.Duration("late_for", e.Late.For))
		}
		return fields
	case DumpKept:
		return []zap.Field{
			zap.String("phase", e.Phase), zap.String("goroutines", e.Goroutines), zap.String("trace", e.Trace), zap.Error(e.Err),
		}
	}
	return nil
}

// stackField is the stack of a panic, and nothing without one.
func stackField(stack []byte) zap.Field {
	if stack == nil {
		return zap.Skip()
	}
	return zap.ByteString("stack", stack)
}
