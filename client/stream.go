package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// stream is what the caller has of a stream over gRPC. It is made together with
// its attempt.
type stream struct {
	grpc.ClientStream

	attempt  *attempt
	answered bool // a message has come; for RecvMsg alone, which is not called concurrently
}

// newAttempt makes an attempt with one allocation, whatever it is for.
func newAttempt(streaming bool) *attempt {
	if !streaming {
		return &attempt{}
	}
	a := &struct {
		attempt
		out stream
	}{}
	a.stream, a.attempt.out = true, &a.out
	a.out.attempt = &a.attempt
	return &a.attempt
}

// watchStream is a [middleware.Watch].
func watchStream(ctx context.Context, cs grpc.ClientStream) grpc.ClientStream {
	a := attemptOf(ctx)
	if a == nil || a.out == nil {
		return cs
	}
	a.out.ClientStream = cs
	return a.out
}

// RecvMsg takes the first message for a sign that the instance is well: the end of
// the stream may be hours away, and its caller's doing.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil && !s.answered {
		s.answered = true
		if a := s.attempt; a.ticket.Trial() {
			if n := a.node.Load(); n != nil {
				now := time.Now()
				n.judge(now, n.record.Answer(now, a.ticket))
			}
		}
	}
	return err
}
