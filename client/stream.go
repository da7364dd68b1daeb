package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"plinth.internal/middleware"
)

// stream is what the caller has of a stream over gRPC. It is made together with
// its attempt.
type stream struct {
	grpc.ClientStream

	attempt  *attempt
	call     *middleware.Call
	answered bool // a message has come; for RecvMsg alone, which is not called concurrently
}

// newAttempt makes an attempt with one allocation, whatever it is for.
func newAttempt(call *middleware.Call) *attempt {
	switch {
	case call.Kind.HTTP():
		a := &struct {
			attempt

			http httpAttempt
		}{}
		a.attempt.http = &a.http
		return &a.attempt
	case !call.Kind.Stream():
		return &attempt{}
	}
	a := &struct {
		attempt

		out stream
	}{}
	a.stream, a.attempt.out = true, &a.out
	a.out.attempt, a.out.call = &a.attempt, call
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
// the stream may be hours away, and its caller's doing. It says what the error of
// an end leaves open.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil && !errors.Is(err, io.EOF) {
		return s.attempt.explained(s.call, nil, err)
	}
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
