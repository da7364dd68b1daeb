package client

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"plinth.internal/apierror"
	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/middleware/load"
)

// The names of metadata and headers that the retry layer reads and writes.
const (
	headerPreviousAttempts = "grpc-previous-rpc-attempts" // request - A6
	replyPushback          = "grpc-retry-pushback-ms"     // response - A6
)

// attempts is the retry loop with the breaker inside: the two middlewares of
// the package documentation, in one place because they share the settings.
func (s *service) attempts(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		set := s.settings(call.Method).effective()
		s.configure()
		if err := s.authorize(ctx, call, &set); err != nil {
			return err
		}
		s.budget.Deposit(time.Now())
		home := s.directory(call)
		l := &loop{
			service: s, set: set, next: next, home: home, route: home.route(ctx, call, set.Routes),
			method: s.methods.get(call), key: hashKey(ctx, call, set.HashHeader),
		}
		return l.run(ctx, call)
	}
}

// loop is the attempts of one call.
type loop struct {
	service *service
	set     Settings
	next    middleware.Handler
	home    *directory
	method  *methodState
	route   routed
	key     string

	made  int                      // attempts so far
	tried []*balancer.Endpoint     // those that failed in this call
	lead  *atomic.Pointer[attempt] // where to show the latest attempt, nil for nowhere
}

func (l *loop) run(ctx context.Context, call *middleware.Call) error {
	s := l.service
	for {
		a, err := l.round(ctx, call)
		if err == nil {
			return nil
		}
		if _, rejected := errors.AsType[*BreakerError](err); rejected {
			return middleware.NoRetry(err)
		}
		decision := l.decide(ctx, a, call, err)
		if !decision.Retry {
			err = a.explained(call, &l.set, err)
			s.gaveUp(a, call, decision.Reason, err)
			if exhausted(l.set, decision.Reason) || call.Reply(middleware.HeaderNoRetry) != "" {
				return middleware.NoRetry(err)
			}
			return err
		}
		s.client.options.events(CallRetried{
			Service: s.name, Method: call.Method, Attempt: l.made, Instance: call.Instance,
			Delay: decision.Delay, Reason: decision.Reason, Err: err,
		})
		l.avoid(a)
		if !wait(ctx, decision.Delay) {
			return a.explained(call, &l.set, middleware.Status(ctx.Err()).Err())
		}
	}
}

// avoid keeps the next attempts away from where this one went.
func (l *loop) avoid(a *attempt) {
	if n := a.node.Load(); n != nil && !slices.Contains(l.tried, n.endpoint) {
		l.tried = append(l.tried, n.endpoint)
	}
}

// round makes one attempt, and what belongs to it: a second one where the
// instance hands the first one back, or where it is slow and may be hedged.
func (l *loop) round(ctx context.Context, call *middleware.Call) (*attempt, error) {
	if l.made == 0 && l.set.Hedge.Enabled && call.Idempotency.Safe() && !call.Kind.Stream() {
		return l.hedged(ctx, call)
	}
	return l.bouncing(ctx, call)
}

// bouncing makes an attempt that may be handed back once: the instance that is
// busier than the rest of the fleet says so at once, and another one is picked.
// Nothing has failed then, and nothing is charged to the budget.
func (l *loop) bouncing(ctx context.Context, call *middleware.Call) (*attempt, error) {
	a := l.attempt(ctx, call)
	limited := l.limit(call)
	err := l.guarded(a, call)
	if !limited || !a.bounced.Load() {
		return a, err
	}
	l.service.client.options.events(CallBounced{Service: l.service.name, Method: call.Method, Instance: call.Instance})
	l.avoid(a)
	call.SetHeader(load.HeaderLimit, "")
	call.SetHeader(load.HeaderWanted, "1")
	l.made--
	call.Attempts--
	a = l.attempt(ctx, call)
	return a, l.guarded(a, call)
}

// limit tells the instance that gets the first attempt from what load on it is
// to hand it back, and reports false where it must take it: for a stream or a
// body that cannot be sent twice, for a fleet that does not say how busy it is,
// and where there is nobody else.
func (l *loop) limit(call *middleware.Call) bool {
	if l.made == 0 && !call.Kind.Stream() && call.Replayable() && l.home.size.Load() > 1 {
		if bound, ok := l.home.bound(time.Now(), l.route); ok {
			call.SetHeader(load.HeaderLimit, strconv.FormatInt(bound, 10))
			return true
		}
	}
	call.SetHeader(load.HeaderLimit, "") // of an attempt before
	if call.Kind.HTTP() {                // over gRPC a server reports now and then without being asked
		call.SetHeader(load.HeaderWanted, "1")
	}
	return false
}

func (l *loop) attempt(ctx context.Context, call *middleware.Call) *attempt {
	a := newAttempt(call)
	a.Context, a.service, a.policy, a.key = ctx, l.service, l.home.policies.get(l.set.Balancer), l.key
	a.route, a.named, a.tried = l.route, l.set.Balancer, l.tried
	if l.lead != nil {
		l.lead.Store(a)
	}
	return a
}

// guarded makes one attempt if the breaker lets it.
func (l *loop) guarded(a *attempt, call *middleware.Call) error {
	l.made++
	b := l.service.breaker(l.method, l.set)
	permit, err := b.Allow(time.Now())
	if rejection, ok := errors.AsType[*breaker.Rejection](err); ok {
		err := &BreakerError{Service: l.service.name, Method: call.Method, Rejection: rejection}
		l.service.client.options.events(CallRejected{Service: l.service.name, Method: call.Method, Err: err})
		return err
	}
	outcome := breaker.Neutral // says nothing about the service, nor does a panic
	defer func() { b.Done(time.Now(), permit, outcome) }()
	err = l.send(a, call, l.made)
	if !a.bounced.Load() && !a.own && (err == nil || a.sent.Load()) {
		outcome = a.classify(time.Now(), err).breaker
	}
	return err
}

// send makes the attempt of this number.
func (l *loop) send(a *attempt, call *middleware.Call, number int) error {
	if number > 1 {
		call.SetHeader(headerPreviousAttempts, strconv.Itoa(number-1))
	}
	if number > 1 {
		// Less is left than at the first attempt. It is the call's time: what the
		// attempt waits for the head of a response is nothing to end a body by.
		deadline.Propagate(a, call)
	}
	if t := l.set.AttemptTimeout; t > 0 && call.Idempotency.Safe() && !call.Kind.Stream() {
		var cancel context.CancelFunc
		if call.Kind.HTTP() {
			cancel = a.patient(t)
		} else {
			a.Context, cancel = context.WithTimeoutCause(a.Context, t, deadline.ErrAttempt)
		}
		defer cancel()
	}
	err := l.next(a, call)
	if err != nil && middleware.Code(err) == codes.DeadlineExceeded {
		a.late() // so that the context says so, and not that it was cancelled here
	}
	n := a.node.Load()
	if n == nil {
		if addr := a.remote.Load(); addr != nil {
			call.Attempts++
			call.Instance = *addr
		}
		return err
	}
	call.Attempts++
	call.Instance = n.id
	if call.Kind.HTTP() { // over gRPC the balancer's own Done does this
		a.conclude(n, err)
	}
	return err
}

func (l *loop) decide(ctx context.Context, a *attempt, call *middleware.Call, err error) retry.Decision {
	if !a.placed() {
		// Nobody can be called. To ask again within milliseconds would only
		// delay the answer; the connections recover on their own time.
		return retry.Decision{Reason: retry.NotNeeded}
	}
	once := call.Kind.HTTP() && !call.Replayable() // the body is gone, whatever became of the attempt
	now := time.Now()
	remaining := time.Duration(math.MaxInt64)
	if d, ok := ctx.Deadline(); ok {
		remaining = d.Sub(now)
	}
	pushback := retry.ParsePushback(call.Reply(replyPushback))
	after, invited := apierror.RetryDelay(err)
	if invited && !pushback.Given() {
		pushback = retry.After(after)
	}
	if !invited && !pushback.Given() {
		pushback = retryAfter(now, call)
	}
	return l.set.Retry.Decide(now, retry.Attempt{
		Number:       l.made,
		Outcome:      classify(err).retry,
		Idempotent:   call.Idempotency.Safe() || call.Reply(middleware.HeaderUnprocessed) != "",
		Stream:       call.Kind.Stream() || once,
		Unsent:       !a.sent.Load() && !once,
		RetriedBelow: call.Reply(middleware.HeaderNoRetry) != "",
		Pushback:     pushback,
		Invited:      invited,
		Remaining:    remaining,
		Expected:     l.home.set.Fleet().Latency,
	}, l.service.budget)
}

// exhausted tells whether the layers above must not retry either: this one has
// done so, or was kept from it for the service's sake. (SRE, ch. 21: with three
// attempts on each of three layers one call becomes 27.)
func exhausted(set Settings, reason retry.Reason) bool {
	switch reason {
	case retry.NoAttempts:
		return set.Retry.MaxAttempts > 1 // else the retrying is left to those above
	case retry.NoBudget, retry.NotWanted, retry.NotInvited, retry.NotAgain:
		return true
	default:
		return false
	}
}

// gaveUp tells of the failures that reach the caller: those that more attempts,
// time or budget might have avoided, and the others that are the service's.
func (s *service) gaveUp(a *attempt, call *middleware.Call, reason retry.Reason, err error) {
	outcome := a.classify(time.Now(), err).breaker
	ill := outcome == breaker.Failed || outcome == breaker.Refused
	switch reason {
	case retry.NoAttempts, retry.NoTime, retry.NoBudget, retry.NotWanted, retry.NotInvited, retry.NotAgain:
		s.client.options.events(CallGaveUp{
			Service: s.name, Method: call.Method, Attempts: call.Attempts, Instance: call.Instance, Reason: reason, Err: err,
		})
	default: // it could not have been retried anyway
		switch {
		case !ill:
		case a.placed():
			s.client.options.events(CallFailed{Service: s.name, Method: call.Method, Instance: call.Instance, Reason: reason, Err: err})
		default:
			s.client.options.events(CallUnplaced{Service: s.name, Method: call.Method, Err: err})
		}
	}
}

// wait waits, and reports false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
