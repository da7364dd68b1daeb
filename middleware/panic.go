package middleware

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// PanicError is the outcome of a call whose handler, or a middleware on the client,
// panicked in a goroutine of its own, where nobody who recovers could see it. The
// recovery middleware reports it as it reports a panic.
type PanicError struct {
	// Value is what it panicked with; nil where a handler ended its goroutine
	// instead.
	Value any
	// Stack is where.
	Stack []byte
}

// Error does not tell the value, which may hold what is not the caller's business.
func (e *PanicError) Error() string { return "the handler or a middleware panicked" }

// GRPCStatus gives the error its code, INTERNAL.
func (e *PanicError) GRPCStatus() *status.Status { return status.New(codes.Internal, e.Error()) }
