package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/apierror"
)

// HTTPError is the outcome of an HTTP call that was answered with a status of
// 400 or above.
type HTTPError struct {
	// Status is the HTTP status that was sent.
	Status int
	// Message is for a person; "" means the status' own text. On a client it is
	// what the server says in a google.rpc.Status.
	Message string

	sent *status.Status // the google.rpc.Status that came with it, nil for none
}

// Error names the status and the message.
func (e *HTTPError) Error() string {
	switch text := http.StatusText(e.Status); {
	case e.Message != "":
		return fmt.Sprintf("HTTP status %d: %s", e.Status, e.Message)
	case text != "":
		return fmt.Sprintf("HTTP status %d %s", e.Status, text)
	}
	return fmt.Sprintf("HTTP status %d", e.Status)
}

// GRPCStatus gives the error its code, for the status package of grpc. On a client
// it is the google.rpc.Status of the response, where it has one: the code, the
// message and the details are those of the server's error then, as over gRPC.
func (e *HTTPError) GRPCStatus() *status.Status {
	if e.sent != nil {
		return e.sent
	}
	return status.New(CodeOfHTTP(e.Status), e.Error())
}

// newHTTPError is the outcome of a call with such a response. A code in the body
// is believed where it agrees with the status.
func newHTTPError(resp *http.Response, body []byte) *HTTPError {
	e := &HTTPError{Status: resp.StatusCode}
	if !apierror.IsJSON(resp.Header) {
		return e
	}
	if s, err := apierror.Unmarshal(body); err == nil && HTTPStatus(s.Code()) == resp.StatusCode {
		e.Message, e.sent = s.Message(), s
	}
	return e
}

// Code tells the gRPC code of an error: OK for nil, the code that a status
// carries, CANCELLED and DEADLINE_EXCEEDED for context errors, else UNKNOWN.
// It is the one place where context errors become codes.
func Code(err error) codes.Code {
	return Status(err).Code()
}

// Status gives the gRPC status of an error, following [Code]. An error that
// claims to be OK is UNKNOWN: it must not get lost. Of an [apierror.Error] it is
// the status as it was made, whatever the error was wrapped in.
func Status(err error) *status.Status {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*apierror.Error](err); ok {
		return e.GRPCStatus()
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return s
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, err.Error())
	}
	return status.New(codes.Unknown, err.Error())
}

// httpOfCode is the one table between gRPC codes and HTTP statuses. It follows
// google/rpc/code.proto.
var httpOfCode = [...]int{
	codes.OK:                 http.StatusOK,
	codes.Canceled:           499, // "Client Closed Request" in code.proto
	codes.Unknown:            http.StatusInternalServerError,
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
	codes.NotFound:           http.StatusNotFound,
	codes.AlreadyExists:      http.StatusConflict,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.FailedPrecondition: http.StatusBadRequest,
	codes.Aborted:            http.StatusConflict,
	codes.OutOfRange:         http.StatusBadRequest,
	codes.Unimplemented:      http.StatusNotImplemented,
	codes.Internal:           http.StatusInternalServerError,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.DataLoss:           http.StatusInternalServerError,
	codes.Unauthenticated:    http.StatusUnauthorized,
}

// HTTPStatus tells the HTTP status for a gRPC code; a code that is not defined
// is 500.
func HTTPStatus(c codes.Code) int {
	if int(c) < len(httpOfCode) {
		return httpOfCode[c]
	}
	return http.StatusInternalServerError
}

// CodeOfHTTP tells the gRPC code for an HTTP status. Where several codes share
// a status the most common one is meant: 400 is INVALID_ARGUMENT, 409 is
// ABORTED, 500 is INTERNAL. A status without a code of its own is
// FAILED_PRECONDITION below 500, which blames the caller, and INTERNAL from
// there on. Statuses below 400 are OK.
func CodeOfHTTP(statusCode int) codes.Code {
	switch statusCode {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound, http.StatusGone:
		return codes.NotFound
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	case http.StatusConflict:
		return codes.Aborted
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case 499:
		return codes.Canceled
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	}
	switch {
	case statusCode < 400:
		return codes.OK
	case statusCode < 500:
		return codes.FailedPrecondition
	}
	return codes.Internal
}

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// CodeName is the name of a code as the gRPC specification spells it
// ("DEADLINE_EXCEEDED"), for metrics and logs. Codes outside the specification
// share one name, so that a label made of it is bounded.
func CodeName(c codes.Code) string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "OTHER"
}

// HTTPStatusOf tells the HTTP status that an outcome was or would be answered
// with; 200 for nil.
func HTTPStatusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	if e, ok := errors.AsType[*HTTPError](err); ok {
		return e.Status
	}
	return HTTPStatus(Code(err))
}

// ServerFault reports whether a code means that the server, not the caller, is
// to blame.
func ServerFault(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}
