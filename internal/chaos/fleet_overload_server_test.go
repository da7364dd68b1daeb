//go:build linux

package chaos_test

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/client/retry"
)

// pool is what the capacity of many services is: some workers, and a queue in front
// of them in the order of arrival. It is deaf: what is in the queue is worked off
// whether or not somebody still waits for it. A queue that is too long so does
// nothing but work that is lost.
type pool struct {
	each time.Duration

	mu   sync.Mutex
	free []time.Time // when each worker has done what it was given
}

func newPool(workers int, each time.Duration) *pool {
	return &pool{each: each, free: make([]time.Time, workers)}
}

// book queues a piece of work and returns when it will be done. As that is arithmetic,
// the pool does exactly what it can, however late the timers of a busy machine are.
func (p *pool) book(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := 0
	for i, at := range p.free {
		if at.Before(p.free[next]) {
			next = i
		}
	}
	if p.free[next].Before(now) {
		p.free[next] = now
	}
	p.free[next] = p.free[next].Add(p.each)
	return p.free[next]
}

// queued serves a call from the pool.
func (w *worker) queued(ctx context.Context) (*wrapperspb.StringValue, error) {
	<-time.After(time.Until(w.pool.book(time.Now())))
	if d, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Now().After(d) {
		w.dropped.Add(1)
		return nil, status.FromContextError(cmp.Or(ctx.Err(), context.DeadlineExceeded)).Err()
	}
	w.done.Add(1)
	return wrapperspb.String("done"), nil
}

// What an instance of a fleet with a known capacity has of it.
const (
	poolWorkers = 2
	poolWork    = 10 * time.Millisecond
)

// pooled is the work of such an instance.
var pooled = workSpec{Workers: poolWorkers, Each: poolWork, Counts: true}

// capacityOf is how many calls a second so many instances can serve.
func capacityOf(instances int) float64 {
	return float64(instances*poolWorkers) / poolWork.Seconds()
}

// usualLoad is the part of their capacity that they are asked for when all is well.
const usualLoad = 0.75

// overload is what became of a time in which twice the usual load came.
type overload struct{ begun, end time.Time }

// overloads doubles the load for a while, and waits until three seconds have passed
// after it and something can be said of the time that follows.
func (w *fleetWorld) overloads() overload {
	w.t.Helper()
	var o overload
	o.begun = time.Now()
	w.everybody("rate 200")
	pass(w.t, pick(30*time.Second, 6*time.Second))
	o.end = time.Now()
	w.everybody("rate 100")
	pass(w.t, pick(20*time.Second, 5*time.Second))
	w.stop()
	return o
}

// judgeOverload looks at what was served of the calls.
func (w *fleetWorld) judgeOverload(o overload, capacity float64) {
	w.t.Helper()
	during, after := w.ledger.made(o.begun, o.end), w.ledger.made(o.end.Add(3*time.Second), w.ended)
	good := float64(len(during)-len(during.lost())) / o.end.Sub(o.begun).Seconds()
	offered := float64(len(during)) / o.end.Sub(o.begun).Seconds()
	w.timed(good >= 0.9*capacity, "while it lasts: goodput at least 90 % of the capacity", "%.1f %% (%.0f of %.0f a second, offered %.0f); %s", 100*good/capacity, good, capacity, offered, during.codes())
	w.timed(len(after.lost())*100 <= len(after), "at least 99 % goodput within 3 s after it", "%.2f %% (%d lost of %d)", 100-percent(len(after.lost()), len(after)), len(after.lost()), len(after))
	out := w.ledger.told("InstanceEjected", o.begun, w.ended)
	w.outcome(len(out) == 0, "nobody is ejected", "ejections: %s", reasons(out))
}

// testFleetOverloaded is F19: for a while twice as many calls come as usual, and that
// is half as many again as can be served. Callers make their calls whatever becomes
// of those before.
func testFleetOverloaded(t *testing.T, g *fleetGroup) {
	const servers = 3
	capacity := capacityOf(servers)
	w := newFleetWorld(t, fleetSpec{group: g, servers: servers, work: pooled, rate: usualLoad * capacity})
	before := w.census()
	usual := w.baseline(time.Now())
	w.timed(len(usual.lost())*1000 <= len(usual), "before: at most 0.1 % lost", "%d of %d", len(usual.lost()), len(usual))
	o := w.overloads()
	w.judgeOverload(o, capacity)
	// What is handed back is no attempt: nothing has failed, and no budget pays for it.
	during := w.ledger.made(o.begun, o.end)
	bounced := len(w.ledger.told("CallBounced", o.begun, o.end))
	attempts := during.attempts() - float64(bounced)/float64(len(during))
	w.outcome(attempts <= 1.15+savedUp(w, len(during)), "at most 1.15 attempts a call"+savedUpText(), "%.3f; with the %d that an instance handed back because it was busier than the others %.3f",
		attempts, bounced, during.attempts())
	w.leavesNothing(before)
	w.finish(fleetRow{id: "F19", what: fmt.Sprintf(
		"%d instances of %d workers that take %v each; callers ask for 75 %% of that, for %v for 150 %%, then for 75 %%; the work in the queue does not notice that its caller has gone",
		servers, poolWorkers, poolWork, o.end.Sub(o.begun).Round(time.Second))})
}

// savedUp is what the tokens that the clients have saved up for retries may add to the
// attempts of so many calls, in the short form: at full length it is too little to
// matter.
func savedUp(w *fleetWorld, calls int) float64 {
	if *full {
		return 0
	}
	return retry.BudgetMax * float64(len(w.callers)*fleetClients) / float64(max(1, calls))
}

func savedUpText() string {
	if *full {
		return ""
	}
	return " (and the saved retries of the short form)"
}
