package middleware

import "context"

// HeaderCriticality is the request header that says how much a call matters: the
// name of a [Criticality]. Calls without it, and with a name that is not known,
// are [Critical].
const HeaderCriticality = "plinth-criticality"

// Criticality is how much a call matters. A server that has too much to do turns
// away those that matter less first. The zero value is the default.
type Criticality uint8

const (
	// Critical calls are what users wait for; the default.
	Critical Criticality = iota
	// CriticalPlus calls are the few without which users can do nothing at all,
	// such as logging in. They are turned away last.
	CriticalPlus
	// SheddablePlus calls may fail for minutes, as they are made again later:
	// those of batch jobs.
	SheddablePlus
	// Sheddable calls may fail at any time and are turned away first: prefetches,
	// analytics.
	Sheddable
)

var criticalityNames = [...]string{"critical", "critical_plus", "sheddable_plus", "sheddable"}

// String is the name that travels with a call.
func (c Criticality) String() string {
	if int(c) < len(criticalityNames) {
		return criticalityNames[c]
	}
	return criticalityNames[Critical]
}

// ParseCriticality reads a name; what is none of the four is [Critical].
func ParseCriticality(name string) Criticality {
	for c, n := range criticalityNames {
		if n == name {
			return Criticality(c)
		}
	}
	return Critical
}

type criticalityKey struct{}

// WithCriticality says how much the calls matter that are made with the context.
// On a server the limiter does so for a call that says it, so that the calls which
// its handler makes matter as much as it does, unless the handler says otherwise.
func WithCriticality(ctx context.Context, c Criticality) context.Context {
	return context.WithValue(ctx, criticalityKey{}, c)
}

// CriticalityOf is how much the calls made with the context matter.
func CriticalityOf(ctx context.Context) Criticality {
	c, _ := ctx.Value(criticalityKey{}).(Criticality)
	return c
}
