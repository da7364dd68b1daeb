package fault

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/middleware"
)

// MaxDelay is the longest delay of a rule; what is to last longer hangs.
const MaxDelay = 5 * time.Minute

// Rule is one fault and the calls that it is for: those that meet all of Method
// and Headers, and Percent of them.
type Rule struct {
	// Name is what the rule is called in logs, metrics and errors; it is not
	// empty.
	Name string
	// Method is what is called: "orders.v1.Orders/Get" for gRPC, the route for
	// HTTP. With a * at its end it stands for all that begin so; "" and "*" for
	// everything but health checks and reflection.
	Method string
	// Headers are values that the request's headers or metadata of these names
	// have; "*" stands for any. Nil is no condition.
	Headers map[string]string
	// Percent is the part of the calls that meet the rest, 0 to 100; nil for all.
	Percent *float64

	// Delay is how long a call waits before anything else happens to it; 0 for
	// not at all.
	Delay time.Duration
	// Code is the error that a call gets, OK for none. At most one of Code, Abort
	// and Hang is given.
	Code codes.Code
	// Abort cuts the connection of the call, with every other call on it. Where
	// the connection is not known (see [Injector.Listener]) a gRPC call gets
	// UNAVAILABLE; an HTTP connection is closed in any case.
	Abort bool
	// Hang keeps the call until its context ends, or the rule does.
	Hang bool
}

// RuleError says what is wrong with a rule.
type RuleError struct {
	// Rule is the name of the rule, Field the field of [Rule] that is wrong.
	Rule, Field string
	// Constraint is what does not hold.
	Constraint string
}

// Error names the rule, the field and the constraint.
func (e *RuleError) Error() string {
	return fmt.Sprintf("set fault rule %q: %s %s", e.Rule, e.Field, e.Constraint)
}

// Validate finds what is wrong with the rule: a *[RuleError], or several joined.
func (r Rule) Validate() error {
	var errs []error
	check := func(wrong bool, field, format string, args ...any) {
		if wrong {
			errs = append(errs, &RuleError{Rule: r.Name, Field: field, Constraint: fmt.Sprintf(format, args...)})
		}
	}
	check(r.Name == "", "Name", "is empty")
	star := strings.IndexByte(r.Method, '*')
	check(star >= 0 && star < len(r.Method)-1, "Method", "has a * that is not at its end")
	check(r.Percent != nil && !(*r.Percent >= 0 && *r.Percent <= 100), "Percent", "is not a number from 0 to 100")
	check(r.Delay < 0 || r.Delay > MaxDelay, "Delay", "is not from 0s to %v", MaxDelay)
	check(middleware.CodeName(r.Code) == "OTHER", "Code", "is no gRPC code")
	for key := range r.Headers {
		check(key == "", "Headers", "have an empty name")
	}
	ends := 0
	for _, given := range []bool{r.Code != codes.OK, r.Abort, r.Hang} {
		if given {
			ends++
		}
	}
	check(ends > 1, "Code", "stands beside abort or hang; a call ends once")
	check(ends == 0 && r.Delay == 0, "Code", "is not given, nor delay, abort or hang: the rule does nothing")
	return errors.Join(errs...)
}

func matches(pattern, method string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok || pattern == "" {
		return strings.HasPrefix(method, prefix)
	}
	return pattern == method
}

func (r Rule) clone() Rule {
	r.Headers = maps.Clone(r.Headers)
	if r.Percent != nil {
		r.Percent = new(*r.Percent)
	}
	return r
}

func (r Rule) equal(o Rule) bool {
	if (r.Percent == nil) != (o.Percent == nil) || r.Percent != nil && *r.Percent != *o.Percent {
		return false
	}
	return r.Name == o.Name && r.Method == o.Method && maps.Equal(r.Headers, o.Headers) &&
		r.Delay == o.Delay && r.Code == o.Code && r.Abort == o.Abort && r.Hang == o.Hang
}

// Header is the request header, or metadata, that asks for a fault where the
// server allows it:
//
//	plinth-fault: delay=100ms, percent=50, code=UNAVAILABLE
//
// It takes delay, percent, code, and abort or hang without a value.
const Header = "plinth-fault"

const maxHeader = 256

// Parse reads the value of [Header].
func Parse(s string) (Rule, error) {
	r := Rule{Name: ByHeader}
	if len(s) > maxHeader {
		return r, fmt.Errorf("read fault: %d bytes are more than %d", len(s), maxHeader)
	}
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var err error
		switch key {
		case "delay":
			if r.Delay, err = time.ParseDuration(value); err != nil {
				return r, fmt.Errorf("read fault: delay %q is no duration, want one such as 100ms", value)
			}
		case "percent":
			p, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return r, fmt.Errorf("read fault: percent %q is no number", value)
			}
			r.Percent = &p
		case "code":
			var ok bool
			if r.Code, ok = CodeNamed(value); !ok {
				return r, fmt.Errorf("read fault: code %q is none of an error, want one such as UNAVAILABLE", value)
			}
		case "abort":
			r.Abort = true
		case "hang":
			r.Hang = true
		default:
			return r, fmt.Errorf("read fault: %q is none of delay, percent, code, abort, hang", key)
		}
		if value != "" && (key == "abort" || key == "hang") {
			return r, fmt.Errorf("read fault: %s takes no value", key)
		}
	}
	return r, r.Validate()
}

// CodeNamed finds the code of an error by its name, such as "UNAVAILABLE".
func CodeNamed(name string) (codes.Code, bool) {
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if middleware.CodeName(c) == name {
			return c, true
		}
	}
	return codes.OK, false
}
