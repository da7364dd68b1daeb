package client

import (
	"context"
	"fmt"
	"strings"

	"plinth.internal/middleware"
)

// Criticality is how much a call matters to whoever has too much to do.
type Criticality = middleware.Criticality

// The criticalities; [Critical] is the default.
const (
	CriticalPlus  = middleware.CriticalPlus
	Critical      = middleware.Critical
	SheddablePlus = middleware.SheddablePlus
	Sheddable     = middleware.Sheddable
)

// WithCriticality says how much the calls matter that are made with the context. A
// server of Plinth's that has too much to do turns away those that matter less
// first. Without it a call matters as much as the one that is being served in the
// context, else it is [Critical]. It travels over gRPC and HTTP, on to all services
// behind; net/rpc has no place for it.
func WithCriticality(ctx context.Context, c Criticality) context.Context {
	return middleware.WithCriticality(ctx, c)
}

// WithCaller sets the name that servers know the client by, where callers do not
// prove who they are: the service that it belongs to. Servers share out by it what
// they have when there is not enough for all, and may have a rate for it. It is at
// most 100 letters, digits, and - _ . : / long. The default, "", leaves it to the
// server, which takes the host.
//
// Over gRPC the user agent carries the name where it is just "plinth"
// ([WithUserAgent]), which costs nothing; else, and over HTTP, a header does.
func WithCaller(name string) Option {
	return func(o *options) { o.caller = name }
}

const maxCaller = 100

// name checks the name of the caller and puts it where it costs least.
func (o *options) name() error {
	if len(o.caller) > maxCaller || strings.ContainsFunc(o.caller, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/", r)
	}) {
		return fmt.Errorf("the caller %q is not a name: use up to %d letters, digits, and - _ . : /", o.caller, maxCaller)
	}
	if o.caller != "" && o.userAgent == strings.TrimSuffix(middleware.CallerAgent, "/") {
		o.userAgent = middleware.CallerAgent + o.caller
		o.agentNames = true
	}
	return nil
}

// introduce says who calls, and how much the call matters.
func (s *service) introduce(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		if c := middleware.CriticalityOf(ctx); c != Critical {
			call.SetHeader(middleware.HeaderCriticality, c.String())
		}
		if o := &s.client.options; o.caller != "" && (call.Kind.HTTP() || !o.agentNames) {
			call.SetHeader(middleware.HeaderCaller, o.caller)
		}
		return next(ctx, call)
	}
}
