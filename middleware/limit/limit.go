// Package limit keeps a server from taking on more calls than it can serve in
// time. What it turns away it turns away at once, before the handler runs, with
// RESOURCE_EXHAUSTED and the invitation to try another instance.
//
// The limit is one of calls in flight, and it learns. Only while calls are turned
// away does it compare their latency with the one the server has when all is well.
// Where it is about the same, the limit is what holds the server up, and it grows.
// Where it is much longer, the limit shrinks, and whether that was right is seen
// from what came of it: calls that wait for one another end at the same rate when
// fewer are in flight; of those that wait for somebody else fewer end, and then
// their latency is the new normal. Now and then a limit that holds calls back is
// tried at twice its value for the same reason. A limit that nobody meets does not
// shrink, and no capacity is given up to measure anything.
//
// Three things decide who is turned away: how much the call matters
// ([middleware.Criticality]), whether its caller asks for more than its share, and
// whether there is room. See [Limiter.Middleware].
//
// Rates that are given ([Rate]) hold beside the limit, learned or not.
//
// Guarantees:
//   - Nothing is turned away for the limit while fewer calls are in flight than
//     it says, and no call waits: there is no queue. A queue in front of a server
//     that has too much to do fills up and makes all calls late.
//   - The limit never falls below the floor, so that some calls always get
//     through and show how the server does.
//   - Health checks and reflection are never limited.
//   - A stream is let in or turned away when it begins, as a call is; from then on
//     it holds no place and says nothing about latency: most streams rest. Only
//     Config.Max counts it, as a tenth of a call. So does the body of an HTTP
//     response, after its head is out.
//   - Memory is bounded, whatever callers send: 1024 callers are told apart that
//     proved who they are, and as many others; those beyond share what is counted
//     of some of their kind. A call that says another name each time only makes
//     callers share places that prove nothing; who matters proves who calls.
//   - The limit of a server that is overloaded from its first call on grows by
//     trying only: its latency may be that of a queue.
//   - Nothing runs in the background. All methods may be called concurrently.
package limit

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"plinth.internal/middleware"
)

// The limit that learns, in calls in flight for each processor that Go may use.
const (
	// FloorPerCPU is below what it never falls.
	FloorPerCPU = 4
	// StartPerCPU is where it begins.
	StartPerCPU = 16
)

// Reason is why a call was turned away.
type Reason string

// The reasons.
const (
	// InFlight: as many calls are in flight as the limit allows.
	InFlight Reason = "in_flight"
	// Criticality: the call matters less than others, for which room is kept.
	Criticality Reason = "criticality"
	// CallerShare: its caller asks for more than its share while there is not
	// enough for all.
	CallerShare Reason = "caller_share"
	// RateMethod: a [Rate] for all callers together is used up.
	RateMethod Reason = "rate_method"
	// RateCaller: a [Rate] of the caller's is used up.
	RateCaller Reason = "rate_caller"
)

// Reasons are all of them.
func Reasons() []Reason { return []Reason{InFlight, Criticality, CallerShare, RateMethod, RateCaller} }

// Limiter limits the calls of one server. Use [New].
type Limiter struct {
	// Set at construction, never changed.
	options options
	born    time.Time // what times are counted from, so that a clock that jumps does no harm
	policy  *policy
	errors  map[Reason]*RejectedError

	config atomic.Pointer[compiled]
	counts map[Reason]*atomic.Int64 // never changed itself

	lastShed atomic.Int64 // nanoseconds after born, 0 = nothing to tell the end of

	mu    sync.Mutex
	burst *burst // guarded by mu; nil while none is told of
}

// New builds a limiter with the zero [Config]. A server needs one.
func New(opts ...Option) *Limiter {
	now := time.Now()
	cpus := runtime.GOMAXPROCS(0)
	l := &Limiter{
		born: now, policy: newPolicy(FloorPerCPU*cpus, StartPerCPU*cpus),
		errors: map[Reason]*RejectedError{}, counts: map[Reason]*atomic.Int64{},
	}
	for _, opt := range opts {
		opt.apply(&l.options)
	}
	for _, r := range Reasons() {
		l.errors[r] = newRejected(r, "")
		l.counts[r] = new(atomic.Int64)
	}
	l.config.Store(&compiled{})
	return l
}

// Configure changes the configuration for the calls that come from now on. What is
// wrong with it is an error that [Config.Validate] describes, and nothing changes.
// A rate that stays the same keeps its count.
func (l *Limiter) Configure(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config.Store(compile(c, l.config.Load()))
	l.policy.configure(c.Off, int64(c.Max))
	return nil
}

// since is a time as the policy counts it.
func (l *Limiter) since(t time.Time) time.Duration { return max(t.Sub(l.born), 1) }

// Option changes what a [Limiter] does.
type Option interface{ apply(o *options) }

type options struct {
	checked  bool // callers are
	onReject func(*middleware.Call, Reason)
	events   func(Event)
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// CallersChecked is for a limiter inside of what checks who calls (middleware/auth):
// callers that prove nothing, because a rule lets in everybody, are told apart by
// their host, which they do not choose, and no longer by what they say of
// themselves. Without it that is a help to those who mean well, and no protection.
func CallersChecked() Option { return optionFunc(func(o *options) { o.checked = true }) }

// OnReject has fn called for every call that is turned away, in the goroutine of
// that call, which waits for it. The default is none.
func OnReject(fn func(call *middleware.Call, reason Reason)) Option {
	return optionFunc(func(o *options) { o.onReject = fn })
}

// WithEvents sets the function that is told when calls begin to be turned away and
// when that is over, in the goroutine of a call, which waits for it. The default is
// none.
func WithEvents(fn func(Event)) Option {
	return optionFunc(func(o *options) { o.events = fn })
}
