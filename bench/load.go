package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// generator makes calls in a closed loop: every worker makes its next call when
// it has the answer to the last one. Only what begins and ends while it measures
// is counted.
type generator struct {
	conn      grpc.ClientConnInterface
	measuring atomic.Bool
	stop      chan struct{}
	workers   sync.WaitGroup

	mu    sync.Mutex
	times histogram // of all workers, guarded by mu
	fails int       // guarded by mu
	first error     // guarded by mu
}

// connect makes calls until one succeeds.
func connect(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := say(ctx, conn, wrapperspb.Bytes(nil))
		if err == nil {
			return nil
		}
		if wait(ctx, 10*time.Millisecond) != nil {
			return fmt.Errorf("make a first call: %w", err)
		}
	}
}

// start begins to make calls in one cell.
func (g *generator) start(c cell) {
	g.times, g.fails, g.first = histogram{}, 0, nil
	g.stop = make(chan struct{})
	g.measuring.Store(false)
	for range c.Concurrency {
		g.workers.Go(func() { g.work(c) })
	}
}

// end stops the workers, waits for them and tells what they have seen.
func (g *generator) end() result {
	close(g.stop)
	g.workers.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	r := result{
		Calls: g.times.total, Fails: g.fails,
		P50: g.times.quantile(0.5), P99: g.times.quantile(0.99), P999: g.times.quantile(0.999),
	}
	if g.first != nil {
		r.First = g.first.Error()
	}
	return r
}

func (g *generator) work(c cell) {
	var (
		times histogram
		fails int
		first error
		in    = wrapperspb.Bytes(make([]byte, c.Payload))
	)
	for !g.stopped() {
		measured := g.measuring.Load()
		begun := time.Now()
		// No deadline: it would hide what a framework's costs, and bare has none.
		err := say(context.Background(), g.conn, in)
		took := time.Since(begun)
		switch {
		case err != nil: // counted at any time: none is expected
			fails++
			if first == nil {
				first = err
			}
		case measured && g.measuring.Load():
			times.add(took)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.times.merge(&times)
	g.fails += fails
	if g.first == nil {
		g.first = first
	}
}

func (g *generator) stopped() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}
