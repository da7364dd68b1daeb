// Package apierror makes errors that a program on the other side can act upon:
// beside its code an error has a reason, the domain that the reason belongs to,
// and metadata, as google.rpc.ErrorInfo. It is the same over gRPC, where it
// travels in the details of the status, and over HTTP, where it is a
// google.rpc.Status in JSON.
//
//	const errs = apierror.Domain("orders.example.com")
//
//	return errs.New(codes.NotFound, "ORDER_NOT_FOUND", "there is no order "+id, apierror.Metadata("order", id))
//
// The caller asks [Domain.Is], or takes the error apart with [From] and, of an
// HTTP response, [FromResponse].
//
// Guarantees:
//   - An [Error] is immutable and may be used by any number of goroutines.
//   - What is sent is bounded, so that it fits into the 8 KiB of headers that
//     every gRPC peer accepts: a message is cut at [MaxMessage] bytes, and of the
//     details what does not fit into [MaxDetails] is left out, the reason never.
//     A cut text ends with "…". Bytes that are not UTF-8 are replaced.
//   - The cause of an error is not sent, only logged. Nor is what an error was
//     wrapped in on its way out of a handler: the caller gets the error as it was
//     made. That holds for Plinth's servers; a bare grpc-go server sends the text
//     of what an error is wrapped in.
//
// Whether a call is tried again follows from its code; [Retryable] and
// [NotRetryable] say it where the code does not. Whether an error counts against
// the instance that sent it follows from its code alone.
package apierror

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Domain is whom the reasons of errors belong to, such as "orders.example.com":
// the name that a service is known by to its callers, who find it in the errors'
// google.rpc.ErrorInfo. It is at most 128 bytes long.
type Domain string

// New makes an error. The reason says in UPPER_SNAKE_CASE what is wrong and is
// for programs, so that it never changes; it is at most [MaxReason] bytes long,
// and "" becomes "UNSPECIFIED". The message is for a person who calls the service
// and may change. [codes.OK] is no error and becomes UNKNOWN.
func (d Domain) New(code codes.Code, reason, message string, opts ...Option) *Error {
	if code == codes.OK {
		code = codes.Unknown
	}
	e := &Error{
		code: code, domain: cut(string(d), maxDomain), reason: cut(reason, MaxReason), message: cut(message, MaxMessage),
	}
	if e.reason == "" {
		e.reason = "UNSPECIFIED"
	}
	for _, o := range opts {
		if o != nil {
			o.apply(e)
		}
	}
	e.built = sync.OnceValue(e.build)
	return e
}

// Is reports whether err, or an error in its chain, is of the domain and has the
// reason, whether it was made here or came over the wire.
func (d Domain) Is(err error, reason string) bool {
	e, ok := From(err)
	return ok && e.domain == string(d) && e.reason == reason
}

// Error is an error with a reason; see the package documentation.
type Error struct {
	code       codes.Code
	domain     string
	reason     string
	message    string
	metadata   map[string]string
	violations []Violation
	retry      bool          // the caller may try again
	after      time.Duration // but not before
	final      bool          // the caller must not try again
	details    []proto.Message
	cause      error

	built func() *status.Status
}

// Error is the text for logs: reason, message and cause.
func (e *Error) Error() string {
	var b strings.Builder
	if e.domain != "" {
		b.WriteString(e.domain + "/")
	}
	b.WriteString(e.reason)
	if e.message != "" {
		b.WriteString(": " + e.message)
	}
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	return b.String()
}

// Unwrap gives the cause, nil for none.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an [Error] of the same domain with the same
// reason, for errors.Is.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.domain == e.domain && t.reason == e.reason
}

// Code is the gRPC code.
func (e *Error) Code() codes.Code { return e.code }

// Domain is whom the reason belongs to.
func (e *Error) Domain() Domain { return Domain(e.domain) }

// Reason is what is wrong, for programs.
func (e *Error) Reason() string { return e.reason }

// Message is what is wrong, for the caller's people.
func (e *Error) Message() string { return e.message }

// Metadata is a copy of what [Metadata] has added; nil for nothing.
func (e *Error) Metadata() map[string]string { return maps.Clone(e.metadata) }

// Violations are the fields of the request that are wrong.
func (e *Error) Violations() []Violation { return slices.Clone(e.violations) }

// Details are the further messages that [Detail] has added, or that came with the
// error and are known to this program.
func (e *Error) Details() []proto.Message { return slices.Clone(e.details) }

// RetryAfter reports whether the caller may try again, and for how long it is to
// wait first; 0 leaves that to the caller.
func (e *Error) RetryAfter() (time.Duration, bool) { return e.after, e.retry }

// NoRetry reports whether the error was made with [NotRetryable]. It is false for
// one that came over the wire: there a header says so, which the client's retry
// knows.
func (e *Error) NoRetry() bool { return e.final }

// GRPCStatus is what is sent, bounded as the package documentation says.
func (e *Error) GRPCStatus() *status.Status { return e.built() }

// statused is how the status package of grpc knows an error's status.
type statused interface {
	error
	GRPCStatus() *status.Status
}

// From finds the typed error in the chain of err: one made here, or one that came
// from a server in a status with google.rpc.ErrorInfo among its details. It
// reports false for every other error, and for nil.
func From(err error) (*Error, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e, true
	}
	if s, ok := errors.AsType[statused](err); ok {
		return FromStatus(s.GRPCStatus())
	}
	return nil, false
}

// RetryDelay reports whether a server's error says that the call may be made again
// (google.rpc.RetryInfo), typed or not, and for how long to wait first; 0 leaves
// that to the caller.
func RetryDelay(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter()
	}
	if s, ok := errors.AsType[statused](err); ok {
		return retryDelay(s.GRPCStatus())
	}
	return 0, false
}
