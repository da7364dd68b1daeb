package middleware

import "errors"

const (
	// HeaderUnprocessed is the trailer (gRPC) or header of the response (HTTP) that
	// says: the call was turned away before anything was done for it. It may be
	// made again elsewhere even if it must not be processed twice. Its value is
	// "1".
	HeaderUnprocessed = "plinth-unprocessed"
	// HeaderPushback is the trailer (gRPC) or header of the response (HTTP) that
	// says after how many milliseconds the call may be made again - A6.
	HeaderPushback = "grpc-retry-pushback-ms"
	// HeaderCaller is the request header in which a caller says its name, where
	// its user agent does not ([CallerAgent]). Nobody has proved it; see [Caller].
	HeaderCaller = "plinth-caller"
	// UserAgent begins the user-agent header of gRPC clients of Plinth's; see
	// [Call.FromPlinth].
	UserAgent = "plinth"
	// CallerAgent begins the user-agent header of a caller that says its name
	// there: "plinth/orders". It is the same for all calls of a connection, so that
	// it costs next to nothing.
	CallerAgent = UserAgent + "/"
)

// unprocessed is an error of a call that was turned away.
type unprocessed interface {
	error
	Unprocessed() bool
}

// IsUnprocessed reports whether an error in the chain of err says, by a method
// Unprocessed, that the server has turned the call away before anything was done
// for it. There may be thousands of them in a second, so they are no lines in the
// log.
func IsUnprocessed(err error) bool {
	e, ok := errors.AsType[unprocessed](err)
	return ok && e.Unprocessed()
}
