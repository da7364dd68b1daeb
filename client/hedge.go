package client

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"plinth.internal/client/retry"
	"plinth.internal/middleware"
)

// hedged makes the first attempt of a call, and a second one on another instance
// if the first takes longer than most. The first answer counts; the attempt that
// is not needed any more is cancelled, and has returned before hedged does.
func (l *loop) hedged(ctx context.Context, call *middleware.Call) (*attempt, error) {
	begun := time.Now()
	delay, planned := l.method.hedge.Plan(begun, l.set.Hedge, l.pending(ctx, call, begun))
	var fork *middleware.Call
	if planned {
		fork, planned = call.Fork()
	}
	if !planned {
		a, err := l.bouncing(ctx, call)
		if err == nil {
			l.method.hedge.Observe(time.Now(), a.took(begun))
		}
		return a, err
	}
	firstCtx, cancelFirst := context.WithCancel(ctx)
	defer cancelFirst()
	secondCtx, cancelSecond := context.WithCancel(ctx)
	defer cancelSecond()

	// The two attempts run side by side, each on a copy of the loop.
	h := &hedge{loop: *l, fork: fork, call: ctx, cancelFirst: cancelFirst, over: make(chan struct{})}
	h.loop.made = 1
	l.lead = &h.lead
	timer := time.AfterFunc(delay, func() { h.run(secondCtx) })
	a, err := l.bouncing(firstCtx, call)
	took := a.took(begun)
	begins := !timer.Stop()
	if begins {
		if err == nil {
			cancelSecond()
		}
		<-h.over
	}
	won := begins && h.made && (err != nil && h.err == nil || errors.Is(err, middleware.ErrAnswered))
	if err == nil || won { // the first one has taken at least that long
		l.method.hedge.Observe(time.Now(), took)
	}
	if !begins || !h.made {
		return a, err
	}
	l.made += h.loop.made - 1
	l.service.client.options.events(CallHedged{Service: l.service.name, Method: call.Method, After: delay, Won: won})
	if won {
		call.Adopt(fork)
		return h.attempt, h.err
	}
	call.Attempts += fork.Attempts
	l.avoid(h.attempt)
	return a, err
}

// took is how long the call's answer has taken that came with this attempt.
func (a *attempt) took(begun time.Time) time.Duration {
	if a.http.answered() {
		return a.http.first.Sub(begun)
	}
	return time.Since(begun)
}

// pending is what the rules of hedging want to know of a call.
func (l *loop) pending(ctx context.Context, call *middleware.Call, now time.Time) retry.Pending {
	p := retry.Pending{Attempts: 1, Idempotent: call.Idempotency.Safe(), Stream: call.Kind.Stream(), Remaining: math.MaxInt64}
	if d, ok := ctx.Deadline(); ok {
		p.Remaining = d.Sub(now)
	}
	return p
}

// hedge is the second attempt.
type hedge struct {
	loop        loop
	fork        *middleware.Call
	call        context.Context // of the call, with its deadline
	cancelFirst context.CancelFunc
	lead        atomic.Pointer[attempt] // the first one

	over    chan struct{} // closed when everything below is written
	made    bool
	attempt *attempt
	err     error
}

func (h *hedge) run(ctx context.Context) {
	defer close(h.over)
	l, now := &h.loop, time.Now()
	first := h.lead.Load()
	if first == nil || ctx.Err() != nil {
		return // it waits for a connection: a second one would do the same
	}
	if h.fork.Answered() {
		return // it has its response, only the body is still read
	}
	if d := l.method.hedge.Allow(now, l.set.Retry, l.pending(h.call, h.fork, now), l.service.budget); !d.Retry {
		return
	}
	l.avoid(first)
	h.made = true
	h.attempt = l.attempt(ctx, h.fork)
	h.err = l.guarded(h.attempt, h.fork)
	if errors.Is(h.err, middleware.ErrAnswered) && h.attempt.node.Load() == nil {
		h.made = false // the response of the first one came just now
		return
	}
	if h.err == nil {
		h.cancelFirst()
	}
}
