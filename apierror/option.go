package apierror

import (
	"time"

	"google.golang.org/protobuf/proto"
)

// Option adds something to an error that is being made.
type Option interface{ apply(e *Error) }

type optionFunc func(*Error)

func (f optionFunc) apply(e *Error) { f(e) }

// Metadata adds a value that programs may need: google.rpc.ErrorInfo.metadata. A
// key is at most 64 bytes long and a value 256, the rest is cut off. A later value
// of a key wins. Together they take at most 2 KiB; those that do not fit, the last
// ones in the order of their keys, are not sent.
func Metadata(key, value string) Option {
	return optionFunc(func(e *Error) {
		if e.metadata == nil {
			e.metadata = map[string]string{}
		}
		e.metadata[cut(key, maxKey)] = cut(value, maxValue)
	})
}

// Retryable says that the caller may try again, after a while: google.rpc.RetryInfo.
// Zero leaves the while to the caller's backoff, and so does what is below zero.
// Plinth's client then retries a call whose code alone would not be retried, under
// its rules: if the call is idempotent, within its budget and its attempts. Over
// HTTP the header Retry-After says it as well.
func Retryable(after time.Duration) Option {
	return optionFunc(func(e *Error) { e.retry, e.after, e.final = true, max(after, 0), false })
}

// NotRetryable says that nobody on the way to the caller is to try again, whatever
// the code says: the mark of middleware.NoRetry.
func NotRetryable() Option {
	return optionFunc(func(e *Error) { e.retry, e.after, e.final = false, 0, true })
}

// Violation is a field of the request that is wrong:
// google.rpc.BadRequest.FieldViolation.
type Violation struct {
	// Field is the path of the field, such as "items[2].quantity"; "" for the
	// request as a whole.
	Field string
	// Reason is the rule that is broken, for programs.
	Reason string
	// Description is what is wrong, for a person.
	Description string
}

// Violations adds fields that are wrong. As many are sent as fit; the last one
// then says how many are missing.
func Violations(vs ...Violation) Option {
	return optionFunc(func(e *Error) {
		for _, v := range vs {
			e.violations = append(e.violations, Violation{
				Field: cut(v.Field, maxValue), Reason: cut(v.Reason, MaxReason), Description: cut(v.Description, maxValue),
			})
		}
	})
}

// Cause keeps the error that led to this one, for the log and for errors.Is in
// this process. It is not sent.
func Cause(err error) Option {
	return optionFunc(func(e *Error) { e.cause = err })
}

// Detail adds any other message to the status, such as google.rpc.Help. It is left
// out where it does not fit, and where it cannot be encoded. Nil adds nothing.
func Detail(m proto.Message) Option {
	return optionFunc(func(e *Error) {
		if m != nil {
			e.details = append(e.details, m)
		}
	})
}
