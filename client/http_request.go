package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// checkRequest finds what net/http would not send. It is said before an instance is
// picked, which has no part in it.
func checkRequest(service string, r *http.Request) error {
	err := checkFields("header", r.Header)
	if err == nil {
		err = checkFields("trailer", r.Trailer)
	}
	if !httpguts.ValidHeaderFieldName(r.Method) && r.Method != "" { // both are tokens
		err = fmt.Errorf("the method is %q, must be one word such as GET", r.Method)
	}
	if err == nil {
		return nil
	}
	return &codedError{fmt.Errorf("call service %q: %w", service, err), codes.InvalidArgument}
}

// checkFields does not show values: they may be secret.
func checkFields(what string, h http.Header) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("the name of the %s %q is not valid: it must be one word of letters, digits and hyphens", what, name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the value of the %s %q is not valid: it must have no line breaks or other control characters", what, name)
			}
		}
	}
	return nil
}

// requestFault is the error of a request that its caller has kept from being
// written: its body did not come, or had another length. No instance is judged.
func (s *service) requestFault(err error) error {
	code := codes.InvalidArgument
	if middleware.Code(err) == codes.Canceled {
		code = codes.Canceled
	}
	return &codedError{fmt.Errorf("call service %q: write the request: %w", s.name, err), code}
}

// requestBody notes what the caller's body does to the request.
type requestBody struct {
	io.ReadCloser

	ctx   context.Context       // of the attempt
	err   atomic.Pointer[error] // that ended it early
	asked atomic.Bool           // the instance is waiting for what comes next
	late  atomic.Bool           // the time was over before that came
}

func (b *requestBody) Read(p []byte) (int, error) {
	timely := b.ctx.Err() == nil
	b.asked.Store(timely)
	n, err := b.ReadCloser.Read(p)
	if timely && b.ctx.Err() != nil {
		b.late.Store(true)
	}
	b.asked.Store(false)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err.Store(&err)
	}
	return n, err
}

// owed tells whether the time of the attempt was over while the instance was waiting
// for the body.
func (b *requestBody) owed() bool { return b.late.Load() || b.asked.Load() && b.ctx.Err() != nil }
