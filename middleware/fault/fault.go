// Package fault makes calls fail on purpose, for tests and game days: a delay, an
// error, a cut connection or a hang, for chosen methods, callers and shares of the
// calls.
//
// Guarantees:
//   - Nothing is injected but by the rules of [Injector.Set], and by the header
//     [Header] where that is allowed.
//   - Health checks and reflection are left alone, unless a rule names their
//     services.
//   - A call that hangs goes on when its rule is taken back, and ends with its
//     context.
//   - Without a rule and without the header a call costs one load.
//
// The faults are those of a handler: tracing, logging, metering and the load
// report, which are around them, see them as such.
package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/apierror"
	"plinth.internal/middleware"
)

// Kind is one way to fail.
type Kind string

// The kinds of fault.
const (
	Delay Kind = "delay"
	Error Kind = "error"
	Abort Kind = "abort"
	Hang  Kind = "hang"
)

// Reason is the reason of the errors that are injected, in [Domain].
const (
	Domain = apierror.Domain("plinth.internal")
	Reason = "FAULT_INJECTED"
)

// ByHeader is the name that faults of the header [Header] are counted under.
const ByHeader = "header"

// Injector injects faults into the calls of one server. The zero Injector injects
// nothing and may be used. It may be used by any number of goroutines.
type Injector struct {
	// OnFault is told of every fault before it happens, by the rule's name; nil
	// for nobody. It is set before the first call and must return quickly.
	OnFault func(call *middleware.Call, rule string, kind Kind)

	current atomic.Pointer[table]
	conns   connections

	mu sync.Mutex // serialises Set
}

// table is what is in use.
type table struct {
	rules  []*active
	header bool
}

// active is a rule while it is in use.
type active struct {
	Rule

	over chan struct{} // closed when it is taken back
}

// Set puts rules into use in place of those before; the first one that a call
// meets counts. The header [Header] is obeyed if header is true. A rule that does
// not change stays as it is, with the calls that it holds. It errs on rules that
// cannot be, and then changes nothing.
func (i *Injector) Set(rules []Rule, header bool) error {
	for n, r := range rules {
		if err := r.Validate(); err != nil {
			return err
		}
		if slices.ContainsFunc(rules[:n], func(o Rule) bool { return o.Name == r.Name }) {
			return fmt.Errorf("set fault rule %q: there are two of this name", r.Name)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var before []*active
	if t := i.current.Load(); t != nil {
		before = t.rules
	}
	next := &table{header: header}
	for _, r := range rules {
		at := slices.IndexFunc(before, func(a *active) bool { return a.equal(r) })
		if at >= 0 {
			next.rules = append(next.rules, before[at])
			continue
		}
		next.rules = append(next.rules, &active{Rule: r.clone(), over: make(chan struct{})})
	}
	if len(next.rules) == 0 && !header {
		next = nil
	}
	i.current.Store(next)
	for _, a := range before {
		if next == nil || !slices.Contains(next.rules, a) {
			close(a.over)
		}
	}
	return nil
}

// Middleware injects the faults. It belongs inside of the framework's other
// middlewares, next to the handler.
func (i *Injector) Middleware() middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, call *middleware.Call) error {
			t := i.current.Load()
			if t == nil {
				return next(ctx, call)
			}
			a, err := t.choose(call)
			if err != nil {
				return err
			}
			if a != nil {
				if err := i.inject(ctx, call, a); err != nil {
					return err
				}
			}
			return next(ctx, call)
		}
	}
}

// choose finds the rule for a call, nil for none. What the header asks for comes
// before the rules.
func (t *table) choose(call *middleware.Call) (*active, error) {
	if t.header {
		if asked := call.Header(Header); asked != "" {
			r, err := Parse(asked)
			if err != nil {
				return nil, Domain.New(codes.InvalidArgument, "FAULT_UNREADABLE", "the header "+Header+": "+err.Error(), apierror.NotRetryable())
			}
			if r.hits() {
				return &active{Rule: r}, nil // it cannot be taken back: over is nil
			}
			return nil, nil
		}
	}
	for _, a := range t.rules {
		if a.meets(call) && a.hits() {
			return a, nil
		}
	}
	return nil, nil
}

func (r Rule) hits() bool {
	return r.Percent == nil || *r.Percent > 0 && rand.Float64()*100 < *r.Percent
}

// meets reports whether a call is one that the rule is for.
func (r Rule) meets(call *middleware.Call) bool {
	if infrastructure(call.Service) && !strings.HasPrefix(r.Method, "grpc.") {
		return false
	}
	if !matches(r.Method, call.FullMethod()) {
		return false
	}
	for key, want := range r.Headers {
		if got := call.Header(key); got != want && (want != "*" || got == "") {
			return false
		}
	}
	return true
}

// infrastructure reports services that are called to look at a server.
func infrastructure(service string) bool {
	return strings.HasPrefix(service, "grpc.health.") || strings.HasPrefix(service, "grpc.reflection.")
}

// inject does what the rule says. A nil error lets the call go on.
func (i *Injector) inject(ctx context.Context, call *middleware.Call, a *active) error {
	if a.Delay > 0 {
		i.tell(call, a, Delay)
		t := time.NewTimer(a.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return middleware.Status(ctx.Err()).Err()
		}
	}
	switch {
	case a.Hang:
		i.tell(call, a, Hang)
		select {
		case <-a.over:
		case <-ctx.Done():
			return middleware.Status(ctx.Err()).Err()
		}
	case a.Abort:
		i.tell(call, a, Abort)
		i.conns.cut(call.Peer())
		err := a.failure(codes.Unavailable, "the connection is cut")
		if call.Kind.HTTP() {
			return fmt.Errorf("%w: %w", err, http.ErrAbortHandler)
		}
		return err
	case a.Code != codes.OK:
		i.tell(call, a, Error)
		return a.failure(a.Code, "this call fails on purpose")
	}
	return nil
}

func (i *Injector) tell(call *middleware.Call, a *active, kind Kind) {
	if i.OnFault != nil {
		i.OnFault(call, a.Name, kind)
	}
}

func (r Rule) failure(code codes.Code, what string) *apierror.Error {
	return Domain.New(code, Reason, what+" (fault rule "+r.Name+")", apierror.Metadata("rule", r.Name))
}
