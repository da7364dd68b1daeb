package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

// resetAtDeadline is what grpc has of a server that notices the deadline first.
const resetAtDeadline = "stream terminated by RST_STREAM with error code: CANCEL"

// explainedError says what an error of the transport leaves open. Its code, its
// details and what it wraps are those of that error.
type explainedError struct {
	text string
	err  error
}

func (e *explainedError) Error() string { return e.text }
func (e *explainedError) Unwrap() error { return e.err }

// Timeout is for those who ask a net.Error, as users of net/http do.
func (e *explainedError) Timeout() bool { return middleware.Code(e.err) == codes.DeadlineExceeded }

func (e *explainedError) GRPCStatus() *status.Status {
	p := middleware.Status(e.err).Proto()
	p.Message = e.text
	return status.FromProto(p)
}

// explained says of an error that was made on this side what was called, and where:
// of a deadline whose it was, of a connection that ended why. Others stay as they
// are.
func (a *attempt) explained(call *middleware.Call, set *Settings, err error) error {
	said := middleware.Status(err)
	name, on := a.service.name+"/"+call.Method, ""
	if n := a.node.Load(); n != nil {
		on = n.id
	} else if addr := a.remote.Load(); addr != nil {
		on = *addr
	}
	switch {
	case said.Code() == codes.DeadlineExceeded && a.late():
		given, whose := a.limit(call, set)
		var text string
		switch {
		case on == "":
			text = fmt.Sprintf("%s: nobody could be called within %s (%s)", name, given, whose)
		case a.stream && a.heard.Load():
			text = fmt.Sprintf("%s on %s: the time of the stream was over after %s (%s)", name, on, given, whose)
		case a.http.answered():
			text = fmt.Sprintf("%s on %s: the response was not read to its end within %s (%s)", name, on, given, whose)
		default:
			text = fmt.Sprintf("%s on %s: no answer within %s (%s)", name, on, given, whose)
		}
		if !a.stream && call.Attempts > 1 { // that of a stream has a writer beside this
			text += fmt.Sprintf(", in %d attempts", call.Attempts)
		}
		if m := said.Message(); m != context.DeadlineExceeded.Error() && m != resetAtDeadline {
			text += ": " + m
		}
		return &explainedError{text, err}
	case said.Code() == codes.Unavailable && cutOff(said.Message()) && on != "":
		why := "the connection was lost before the end of the call"
		if strings.Contains(said.Message(), "graceful_stop") {
			why = "the instance was stopping and has ended what was still running, see server.drain.timeout there"
		}
		return &explainedError{fmt.Sprintf("%s on %s: %s: %s", name, on, why, said.Message()), err}
	}
	return err
}

// late reports whether the deadline of the attempt is over. The server may have
// found that out a moment before the timer here.
func (a *attempt) late() bool {
	if due, ok := a.Deadline(); !ok || time.Now().Before(due) {
		return false
	}
	select {
	case <-a.Done():
	case <-time.After(10 * time.Millisecond): // a context of somebody's own may never say so
	}
	return errors.Is(ended(a), context.DeadlineExceeded)
}

// cutOff reports whether grpc says that the connection ended under a call.
func cutOff(message string) bool {
	return strings.HasPrefix(message, "closing transport due to") || strings.HasPrefix(message, "error reading from server")
}

// limit is how long the attempt or its call was given, and by whom.
func (a *attempt) limit(call *middleware.Call, set *Settings) (given time.Duration, whose string) {
	due, _ := a.Deadline()
	given = due.Sub(call.Start).Round(10 * time.Microsecond)
	if given > 10*time.Millisecond {
		given = given.Round(time.Millisecond)
	}
	key, field := "clients."+a.service.name+".", "Timeout"
	switch cause := context.Cause(a); {
	case errors.Is(cause, deadline.ErrServed):
		return given, "the deadline of the call that is served here"
	case errors.Is(cause, deadline.ErrAttempt):
		return set.AttemptTimeout, key + "attempt_timeout, client.Settings.AttemptTimeout in code"
	case errors.Is(cause, deadline.ErrTimeout):
		if a.stream {
			key, field = key+"methods."+call.Method+".", "StreamTimeout"
		}
		whose = fmt.Sprintf("%stimeout, client.Settings.%s in code", key, field)
		if !a.stream && set.timeout(false) == DefaultTimeout {
			whose = "the default of " + whose
		}
		return given, whose
	}
	return given, "the caller's deadline"
}
