package client

import (
	"net/http"
	"strconv"
	"time"

	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

// headerRetryAfter is how servers that know nothing of gRPC say when to come again.
const headerRetryAfter = "Retry-After" // RFC 9110, 10.2.3

// retryAfter is the pushback of an HTTP response that says it in that way: in seconds,
// or by a date. What cannot be read says nothing.
func retryAfter(now time.Time, call *middleware.Call) retry.Pushback {
	if !call.Kind.HTTP() {
		return retry.Pushback{}
	}
	value := call.Reply(headerRetryAfter)
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return retry.After(time.Duration(seconds) * time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		return retry.After(date.Sub(now))
	}
	return retry.Pushback{}
}
