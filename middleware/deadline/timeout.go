package deadline

import (
	"fmt"
	"strconv"
	"time"
)

// units are those of the gRPC specification ("PROTOCOL-HTTP2"), finest first:
// TimeoutUnit is one of H, M, S, m (milli), u (micro), n (nano).
var units = [...]struct {
	name byte
	size time.Duration
}{
	{'n', time.Nanosecond},
	{'u', time.Microsecond},
	{'m', time.Millisecond},
	{'S', time.Second},
	{'M', time.Minute},
	{'H', time.Hour},
}

// "TimeoutValue: positive integer as ASCII string of at most 8 digits"
const (
	maxDigits = 8
	maxValue  = 99_999_999
)

// Format writes a duration in the format of the grpc-timeout header, in the
// finest unit that has room for it. It rounds down: a callee should give up
// before its caller does. What is negative is zero.
func Format(d time.Duration) string {
	d = max(d, 0)
	u := 0
	for d/units[u].size > maxValue {
		u++ // hours have room for every duration
	}
	buf := make([]byte, 0, maxDigits+1)
	buf = strconv.AppendInt(buf, int64(d/units[u].size), 10)
	return string(append(buf, units[u].name))
}

// Parse reads the value of a grpc-timeout header. The error names the value and
// the format. A timeout longer than a [time.Duration] can be is the longest one.
func Parse(s string) (time.Duration, error) {
	n := len(s) - 1
	if n < 1 || n > maxDigits {
		return 0, syntaxError(s)
	}
	var value int64
	for i := range n {
		if s[i] < '0' || s[i] > '9' {
			return 0, syntaxError(s)
		}
		value = value*10 + int64(s[i]-'0')
	}
	for _, u := range units {
		if u.name != s[n] {
			continue
		}
		const longest = time.Duration(1<<63 - 1)
		if value > int64(longest/u.size) {
			return longest, nil
		}
		return time.Duration(value) * u.size, nil
	}
	return 0, syntaxError(s)
}

func syntaxError(s string) error {
	const shown = 20
	if len(s) > shown {
		s = s[:shown] + "..."
	}
	return fmt.Errorf("read header %s: %q is not one to %d digits and one of H, M, S, m, u, n", Header, s, maxDigits)
}
