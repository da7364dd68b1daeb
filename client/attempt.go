package client

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/retry"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
)

// The names of metadata and headers that the retry layer reads and writes.
const (
	headerPreviousAttempts = "grpc-previous-rpc-attempts" // request - A6
	replyPushback          = "grpc-retry-pushback-ms"     // response - A6
)

// attempt is one attempt of a call, seen from both ends: the retry loop makes
// it, and the transport's pick finds it in the context and notes what it did.
// It is a context itself to save an allocation.
type attempt struct {
	context.Context

	policy balancer.Policy
	tried  []*balancer.Endpoint // failed before in this call

	// Written by the pick and by the end of the transport's attempt, which for
	// a stream run in goroutines of grpc.
	node atomic.Pointer[node] // picked last, nil = nobody was picked
	sent atomic.Bool          // something may have reached it
}

type attemptKey struct{}

// Value gives the attempt itself for its key.
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	return a.Context.Value(key)
}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// pick chooses one of the nodes, of which there must be one, and takes it for
// sent to until the transport knows better.
func (a *attempt) pick(now time.Time, nodes []*node, endpoints, avoid []*balancer.Endpoint) int {
	i := a.policy.Pick(now, endpoints, avoid)
	a.node.Store(nodes[i])
	a.sent.Store(true)
	return i
}

// attempts is the retry loop with the breaker inside: the two middlewares of
// the package documentation, in one function because they share the settings.
func (s *service) attempts(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		set := s.settings(call.Method).effective()
		s.budget.Deposit(time.Now())
		var tried []*balancer.Endpoint
		for n := 1; ; n++ {
			a := &attempt{Context: ctx, policy: s.policy(set.Balancer), tried: tried}
			err := s.guarded(a, call, set, n, next)
			if err == nil {
				return nil
			}
			if _, rejected := errors.AsType[*BreakerError](err); rejected {
				return middleware.NoRetry(err)
			}
			decision := s.decide(ctx, a, call, set, n, err)
			if !decision.Retry {
				s.gaveUp(call, decision.Reason, err)
				if exhausted(set, decision.Reason) || call.Reply(middleware.HeaderNoRetry) != "" {
					return middleware.NoRetry(err)
				}
				return err
			}
			s.client.options.events(CallRetried{
				Service: s.name, Method: call.Method, Attempt: n, Instance: call.Instance,
				Delay: decision.Delay, Reason: decision.Reason, Err: err,
			})
			if node := a.node.Load(); node != nil {
				tried = append(tried, node.endpoint)
			}
			if !wait(ctx, decision.Delay) {
				return middleware.Status(ctx.Err()).Err()
			}
		}
	}
}

// guarded makes one attempt if the breaker lets it.
func (s *service) guarded(a *attempt, call *middleware.Call, set Settings, n int, next middleware.Handler) error {
	if set.Breaker == BreakerOff {
		return s.send(a, call, set, n, next)
	}
	b := s.methods.breaker(call)
	now := time.Now()
	permit, ok := b.Allow(now)
	if !ok {
		state := b.State(now)
		err := &BreakerError{Service: s.name, Method: call.Method, Sent: state.Sent, Refused: state.Refused, Reject: state.Reject}
		s.client.options.events(CallRejected{Service: s.name, Method: call.Method, Err: err})
		return err
	}
	err := s.send(a, call, set, n, next)
	outcome := classify(err).breaker
	if !a.sent.Load() && err != nil {
		outcome = breaker.Neutral // says nothing about the service
	}
	b.Done(time.Now(), permit, outcome)
	return err
}

// send makes one attempt.
func (s *service) send(a *attempt, call *middleware.Call, set Settings, n int, next middleware.Handler) error {
	if n > 1 {
		call.SetHeader(headerPreviousAttempts, strconv.Itoa(n-1))
	}
	if t := set.AttemptTimeout; t > 0 && call.Idempotency.Safe() && !call.Kind.Stream() {
		var cancel context.CancelFunc
		a.Context, cancel = context.WithTimeout(a.Context, t)
		defer cancel()
		deadline.Propagate(a, call)
	} else if n > 1 {
		deadline.Propagate(a, call) // less is left than at the first attempt
	}
	start := time.Now()
	err := next(a, call)
	if node := a.node.Load(); node != nil {
		call.Attempts++
		call.Instance = node.id
		if call.Kind.HTTP() {
			// Over gRPC the balancer's own Done does this.
			outcome := classify(err).balancer
			if !a.sent.Load() {
				outcome = balancer.Failed // the connection was refused
			}
			node.endpoint.End(outcome, time.Since(start))
		}
	}
	return err
}

func (s *service) decide(ctx context.Context, a *attempt, call *middleware.Call, set Settings, n int, err error) retry.Decision {
	if a.node.Load() == nil {
		// Nobody can be called. To ask again within milliseconds would only
		// delay the answer; the connections recover on their own time.
		return retry.Decision{Reason: retry.NotNeeded}
	}
	remaining := time.Duration(math.MaxInt64)
	if d, ok := ctx.Deadline(); ok {
		remaining = time.Until(d)
	}
	return set.Retry.Decide(time.Now(), retry.Attempt{
		Number:       n,
		Outcome:      classify(err).retry,
		Idempotent:   call.Idempotency.Safe(),
		Stream:       call.Kind.Stream(),
		Unsent:       !a.sent.Load(),
		RetriedBelow: call.Reply(middleware.HeaderNoRetry) != "",
		Pushback:     retry.ParsePushback(call.Reply(replyPushback)),
		Remaining:    remaining,
	}, s.budget)
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

// gaveUp tells of the failures that more attempts, time or budget might have
// avoided.
func (s *service) gaveUp(call *middleware.Call, reason retry.Reason, err error) {
	switch reason {
	case retry.NoAttempts, retry.NoTime, retry.NoBudget, retry.NotWanted, retry.NotInvited, retry.NotAgain:
		s.client.options.events(CallGaveUp{Service: s.name, Method: call.Method, Attempts: call.Attempts, Reason: reason, Err: err})
	default: // it could not have been retried anyway
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
