package client

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"plinth.internal/client/balancer"
	"plinth.internal/client/breaker"
	"plinth.internal/client/outlier"
	"plinth.internal/middleware"
	"plinth.internal/middleware/deadline"
	"plinth.internal/middleware/load"
)

// attempt is one attempt of a call, seen from both ends: the retry loop makes
// it, and the transport's pick finds it in the context and notes what it did.
// It is a context itself to save an allocation.
type attempt struct {
	context.Context

	service *service
	policy  balancer.Policy
	route   routed               // the zero value for a service without rules
	named   string               // the policy's name, for those of a rule's instances
	key     string               // for a consistent hash
	tried   []*balancer.Endpoint // failed before in this call
	pinger  pinger               // nil over gRPC
	http    *httpAttempt         // nil but over HTTP

	// Between begin and end, which never overlap.
	begun   time.Time
	use     balancer.Call
	ticket  outlier.Ticket
	report  load.Report
	trailer metadata.MD // of a gRPC response

	// Written by the pick and by the end of the transport's attempt, which for
	// a stream run in goroutines of grpc.
	node    atomic.Pointer[node]   // picked last, nil = nobody was picked
	remote  atomic.Pointer[string] // where a balancer that is not ours has sent it; see placement
	sent    atomic.Bool            // something may have reached it
	bounced atomic.Bool            // the instance handed it back, being too busy
	heard   atomic.Bool            // the head of a stream's answer came, or a message

	out    *stream // what its caller has of a stream, nil for other calls
	stream bool    // lasts as long as its user likes
	asked  bool    // somebody was asked for his load before the pick
	told   bool    // report is set
	own    bool    // it failed by its caller's doing
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

// reported is what the picker knows of an attempt over gRPC that has ended.
func reported(ctx context.Context) (addr string, trailer metadata.MD) {
	a := attemptOf(ctx)
	if a == nil {
		return "", nil
	}
	if n := a.node.Load(); n != nil {
		addr = n.addr
	}
	return addr, a.trailer
}

// request is what a policy is asked.
func (a *attempt) request(now time.Time, avoid []*balancer.Endpoint) balancer.Request {
	return balancer.Request{Now: now, Exclude: avoid, Key: a.key}
}

// choose notes whom the attempt over gRPC or net/rpc goes to, and takes it for sent
// until the transport knows better.
func (a *attempt) choose(n *node) {
	a.node.Store(n)
	a.sent.Store(true)
}

// placed tells whether anybody was picked for the attempt.
func (a *attempt) placed() bool { return a.node.Load() != nil || a.remote.Load() != nil }

// begin counts the attempt in at the node that was chosen.
func (a *attempt) begin(now time.Time, n *node) {
	a.begun = now
	a.ticket = n.record.Begin(now)
	if a.stream {
		n.endpoint.BeginStream(now, &a.use)
	} else {
		n.endpoint.Begin(now, &a.use)
	}
}

// end takes the attempt out of the count and lets the node answer for how it
// ended.
func (a *attempt) end(n *node, err error) {
	h := a.http
	if h != nil {
		a.own = h.end(err)
	}
	now := time.Now()
	c := a.classify(now, err)
	if a.bounced.Load() || a.own || err != nil && a.hopeless(n, now, err) {
		c.balancer, c.outlier = balancer.Ignored, outlier.Ignored
	} else if a.pinger != nil && err != nil && (a.sent.Load() || h != nil && h.dialing) && middleware.Code(err) == codes.DeadlineExceeded {
		n.doubt(a.pinger)
	}
	n.endpoint.End(now, &a.use, c.balancer)
	if a.told { // it does not count the attempt that it came with
		n.report(now, a.report)
	}
	n.judge(now, n.record.End(now, a.ticket, c.outlier))
	if h != nil {
		n.pool.settle(h.via)
	}
}

// forget takes the attempt out of the count without judging anybody: nothing
// was sent.
func (a *attempt) forget(n *node) {
	h := a.http
	if h != nil {
		h.end(nil)
	}
	now := time.Now()
	n.endpoint.End(now, &a.use, balancer.Ignored)
	n.judge(now, n.record.End(now, a.ticket, outlier.Ignored))
	if h != nil {
		n.pool.settle(h.via)
	}
}

// report takes in what the node says about itself.
func (n *node) report(now time.Time, r load.Report) {
	n.endpoint.Report(now, balancer.Report{
		InFlight: r.InFlight, Latency: r.Latency, Failures: r.Failures,
		QPS: r.QPS, EPS: r.EPS, Utilization: r.Utilization,
	})
}

// classify is the function of that name but for a stream that was answered and
// lasted until its deadline: it has had all the time that its caller gave it.
func (a *attempt) classify(now time.Time, err error) class {
	c := classify(err)
	if a.stream && a.heard.Load() && middleware.Code(err) == codes.DeadlineExceeded && a.over(now) {
		c.breaker, c.balancer, c.outlier = breaker.Accepted, balancer.Succeeded, outlier.Succeeded
	}
	return c
}

// hops is how many calls further on an end may be noticed that is that of the
// deadline here: each of them gives up by [deadline.Hop] earlier.
const hops = 4

// over tells whether the time of the attempt was over at its end.
func (a *attempt) over(now time.Time) bool {
	due, ok := a.Deadline()
	return ok && due.Sub(now) <= hops*deadline.Hop
}

// reasonable is the part of an instance's own latency that it must have been
// given for a timeout to be its fault.
const reasonable = 0.2

// hopeless tells whether the attempt timed out because it was given next to no
// time, which is nobody's fault.
func (a *attempt) hopeless(n *node, now time.Time, err error) bool {
	deadline, ok := a.Deadline()
	if !ok || middleware.Code(err) != codes.DeadlineExceeded {
		return false
	}
	usual := n.endpoint.Stats(now).Latency
	return float64(deadline.Sub(a.begun)) < reasonable*float64(usual)
}
