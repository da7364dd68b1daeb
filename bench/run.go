package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// cell is one kind of load.
type cell struct {
	Concurrency int `json:"concurrency"`
	Payload     int `json:"payload"`
}

// String is how a cell is named on the command line.
func (c cell) String() string { return fmt.Sprintf("%dx%d", c.Concurrency, c.Payload) }

// title is how a cell is named in a table.
func (c cell) title() string {
	size := fmt.Sprintf("%d B", c.Payload)
	if c.Payload >= 1024 && c.Payload%1024 == 0 {
		size = fmt.Sprintf("%d KiB", c.Payload/1024)
	}
	return fmt.Sprintf("%s, %d at a time", size, c.Concurrency)
}

func parseCell(s string) (cell, error) {
	var c cell
	if n, err := fmt.Sscanf(s, "%dx%d", &c.Concurrency, &c.Payload); n != 2 || err != nil || c.Concurrency < 1 || c.Payload < 0 || c.String() != s {
		return c, fmt.Errorf("read cell %q: want concurrency x bytes, such as 32x100", s)
	}
	return c, nil
}

// mainCell is where features are compared.
func mainCell() cell { return cell{32, 100} }

func cells() []cell {
	return []cell{{1, 100}, mainCell(), {256, 100}, {1, 4096}, {32, 4096}, {256, 4096}}
}

// plan is a run to be made.
type plan struct {
	contenders []contender // the first is what the others are compared to
	cells      []cell
	rounds     int
	window     time.Duration // that is measured
	warmUp     time.Duration // before it
	profiles   profiles
	progress   io.Writer
}

// sample is one window.
type sample struct {
	result

	Elapsed        time.Duration
	Client, Server usage // in the window
}

// pair is a contender with its two processes.
type pair struct {
	contender

	client, server *process
}

// run measures everything. The processes live for the whole run, so that each
// window finds them warm; those that wait do nothing.
func (p *plan) run(ctx context.Context) (_ *report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var pairs []*pair
	defer func() {
		for _, x := range pairs {
			err = errors.Join(err, x.client.close(), x.server.close())
		}
	}()
	for _, c := range p.contenders {
		x, err := p.open(ctx, c)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, x)
	}
	r := newReport(p)
	for round := range p.rounds {
		for _, cell := range p.cells {
			turns := slices.DeleteFunc(slices.Clone(pairs), func(x *pair) bool {
				return cell != mainCell() && len(p.cells) > 1 && !x.everywhere()
			})
			// Each round begins with another one, so that none is always the
			// first after a pause.
			for i := range turns {
				x := turns[(i+round)%len(turns)]
				s, err := p.turn(ctx, x, cell)
				if err != nil {
					return nil, err
				}
				r.add(cell, x.name, s)
				_, _ = fmt.Fprintf(p.progress, "round %d/%d  %-8v %-10s %9.0f calls/s\n", round+1, p.rounds, cell, x.name, s.rate())
			}
		}
	}
	return r, nil
}

func (p *plan) open(ctx context.Context, c contender) (*pair, error) {
	server, ready, err := spawn(ctx, order{Role: roleServer, Contender: c.name, Profiles: p.profiles})
	if err != nil {
		return nil, err
	}
	client, _, err := spawn(ctx, order{Role: roleClient, Contender: c.name, Addrs: ready.Addrs, Profiles: p.profiles})
	if err != nil {
		return nil, errors.Join(err, server.close())
	}
	return &pair{c, client, server}, nil
}

// turn measures one window.
func (p *plan) turn(ctx context.Context, x *pair, c cell) (sample, error) {
	var s sample
	if _, err := x.client.ask(request{Op: opStart, Cell: c}); err != nil {
		return s, err
	}
	if err := wait(ctx, p.warmUp); err != nil {
		return s, err
	}
	before, err := x.usages(opBegin)
	if err != nil {
		return s, err
	}
	if err := wait(ctx, p.window); err != nil {
		return s, err
	}
	after, err := x.usages(opEnd)
	if err != nil {
		return s, err
	}
	stopped, err := x.client.ask(request{Op: opStop})
	if err != nil {
		return s, err
	}
	s.result = stopped.Result
	s.Client, s.Server = after[0].since(before[0]), after[1].since(before[1])
	s.Elapsed = s.Client.At
	if s.Fails > 0 {
		return s, fmt.Errorf("measure %s at %v: %d calls failed, the first with: %s", x.name, c, s.Fails, s.First)
	}
	if s.Calls == 0 {
		return s, fmt.Errorf("measure %s at %v: no call ended within %s", x.name, c, p.window)
	}
	return s, nil
}

// wait returns early, with an error, when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// usages asks the client and the server.
func (x *pair) usages(op string) ([2]usage, error) {
	var out [2]usage
	for i, proc := range []*process{x.client, x.server} {
		a, err := proc.ask(request{Op: op})
		if err != nil {
			return out, err
		}
		out[i] = a.Usage
	}
	return out, nil
}

func (s *sample) rate() float64 { return float64(s.Calls) / s.Elapsed.Seconds() }

// cpu is the CPU time of both sides for each call, in microseconds.
func (s *sample) cpu() float64 { return s.clientCPU() + s.serverCPU() }

func (s *sample) clientCPU() float64 { return perCall(s.Client.CPU.Seconds()*1e6, s.Calls) }
func (s *sample) serverCPU() float64 { return perCall(s.Server.CPU.Seconds()*1e6, s.Calls) }

// allocs and bytes are those of both sides for each call.
func (s *sample) allocs() float64 {
	return perCall(float64(s.Client.Mallocs+s.Server.Mallocs), s.Calls)
}

func (s *sample) bytes() float64 { return perCall(float64(s.Client.Bytes+s.Server.Bytes), s.Calls) }

// gc is the share of the CPU time that went into collecting garbage.
func (s *sample) gc() float64 {
	return (s.Client.GC + s.Server.GC).Seconds() / (s.Client.CPU + s.Server.CPU).Seconds()
}

func perCall(total float64, calls uint64) float64 { return total / float64(calls) }

// machine says what the figures were taken on.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
