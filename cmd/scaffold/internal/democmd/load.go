package democmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"plinth.internal/client"
	"plinth.internal/cmd/scaffold/internal/ui"
	"plinth.internal/middleware"
	"plinth.internal/middleware/tracing"
	"plinth.internal/registry"
	yourservicev1 "plinth.internal/templates/service/api/yourservice/v1"
	"plinth.internal/trace"
)

const (
	workers     = 8
	pace        = 8 * time.Millisecond // between two calls of one worker: 1000 calls/s in all
	firstWithin = time.Minute
)

// load calls orders through the client stack and counts.
type load struct {
	client *client.Client
	conn   *grpc.ClientConn
	tracer *trace.Tracer
	begun  time.Time

	mu         sync.Mutex
	latencies  []time.Duration
	failed     int
	retries    int
	firstError error
	instances  map[string]int
	trace      string // of the last call that was retried, else of the last call
	retried    bool
}

func newLoad(reg *registry.Registry) (*load, error) {
	l := &load{instances: map[string]int{}}
	var err error
	if l.tracer, err = trace.New(trace.Config{Service: "demo"}); err != nil {
		return nil, err
	}
	l.client, err = client.New(reg,
		client.WithMiddleware(tracing.Client(l.tracer), l.keepTrace),
		client.WithEvents(func(e client.Event) {
			if _, ok := e.(client.CallRetried); ok {
				l.mu.Lock()
				l.retries++
				l.mu.Unlock()
			}
		}))
	if err != nil {
		return nil, err
	}
	if l.conn, err = l.client.Conn("orders"); err != nil {
		return nil, errors.Join(err, l.client.Close())
	}
	return l, nil
}

func (l *load) close() { _ = l.client.Close() }

// keepTrace remembers a trace to show, preferably of a call that was retried.
func (l *load) keepTrace(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, call *middleware.Call) error {
		err := next(ctx, call)
		l.mu.Lock()
		defer l.mu.Unlock()
		if retried := call.Attempts > 1; err == nil && (retried || !l.retried) {
			l.trace, l.retried = call.TraceID, retried
		}
		return err
	}
}

// call asks orders for an item. The messages of the template's placeholder have
// the same fields as those of every service made from it; what the method
// declares about repeating it is in the generated code of orders, which is not a
// part of this program, so it is said here.
func (l *load) call(ctx context.Context) (*yourservicev1.GetResponse, error) {
	out := new(yourservicev1.GetResponse)
	ctx = middleware.WithIdempotency(ctx, middleware.NoSideEffects)
	err := l.conn.Invoke(ctx, "/orders.v1.Orders/Get", &yourservicev1.GetRequest{Id: "welcome"}, out)
	return out, err
}

// first makes the first call, which finds out whether everything is connected.
func (l *load) first(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstWithin)
	defer cancel()
	_, err := l.call(ctx)
	return err
}

// event is something to do while the calls go on.
type event struct {
	at time.Duration
	do func() error
}

// run makes calls for a duration, tells about them once a second, and does what
// is scheduled.
func (l *load) run(ctx context.Context, p *ui.Printer, duration time.Duration, schedule []event) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.begun = time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil && time.Since(l.begun) < duration {
				l.one(ctx)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Go(func() {
		for _, e := range schedule {
			if !sleepUntil(ctx, l.begun.Add(e.at)) {
				return
			}
			if err := e.do(); err != nil {
				cancel(err)
				return
			}
		}
	})
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return context.Cause(ctx)
		case <-tick.C:
			p.Notef("  %-9s %s", fmt.Sprintf("%.0fs", time.Since(l.begun).Seconds()), l.progress())
		}
	}
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *load) one(ctx context.Context) {
	start := time.Now()
	resp, err := l.call(ctx)
	took := time.Since(start)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		return // interrupted: says nothing about the services
	}
	l.latencies = append(l.latencies, took)
	if err != nil {
		l.failed++
		if l.firstError == nil {
			l.firstError = err
		}
		return
	}
	for _, id := range resp.GetServedBy() {
		l.instances[id]++
	}
}

func (l *load) progress() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%6d calls  %d failed  %d retries", len(l.latencies), l.failed, l.retries)
}

type summary struct {
	calls, failed, retries int
	p50, p99               float64 // milliseconds
	instances              map[string]int
	trace                  string
	firstError             error
}

func (l *load) summary() summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	sorted := slices.Sorted(slices.Values(l.latencies))
	return summary{
		calls: len(sorted), failed: l.failed, retries: l.retries,
		p50: milliseconds(quantile(sorted, 0.50)), p99: milliseconds(quantile(sorted, 0.99)),
		instances: maps.Clone(l.instances), trace: l.trace, firstError: l.firstError,
	}
}

// quantile is the smallest value that at least a share q of all is not above.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
