//go:build linux

package chaos_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"plinth.internal/framework"
)

const (
	// workService is the service of the fleet, workMethod its only method.
	workService = "work"
	workMethod  = "/chaos.v1.Work/Do"
	// workTime is how long its handler takes while nothing is wrong.
	workTime = 5 * time.Millisecond
	// workDeadline is how long callers wait.
	workDeadline = 500 * time.Millisecond
)

// worker is the handler of an instance of the fleet. Its faults are switched on
// and off by lines on standard input.
type worker struct {
	slow  atomic.Int64 // nanoseconds more than workTime
	fail  atomic.Uint32
	bad   atomic.Uint32                 // the code for bad requests
	limit atomic.Int64                  // calls at a time; 0 = any number
	hang  atomic.Pointer[chan struct{}] // closed when it is over; nil = no hang
	toil  atomic.Bool                   // work until nobody waits for it

	spec workSpec
	pool *pool  // what does the work; nil = as many calls at a time as come
	next invoke // the service behind this one; nil = none

	started, dropped, stale, open   atomic.Int64
	arrived, done, retried, bounced atomic.Int64
}

// Do serves a call. The request says whether it is a bad one, when the call was
// made, in microseconds since 1970, and has a number.
func (w *worker) Do(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	w.started.Add(1)
	open := w.open.Add(1)
	defer w.open.Add(-1)
	words := append(strings.Fields(in.GetValue()), "", "")
	sent, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if hang := w.hang.Load(); hang != nil {
		<-*hang // as a deadlock: it does not care whether the caller is still there
	}
	if code := codes.Code(w.fail.Load()); code != codes.OK {
		<-time.After(100 * time.Microsecond)
		return nil, status.Error(code, "this instance is a black hole")
	}
	if limit := w.limit.Load(); limit > 0 && open > limit {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(pushback, "0")) // over other transports there is none
		return nil, status.Error(codes.ResourceExhausted, "this instance has enough to do")
	}
	if code := codes.Code(w.bad.Load()); code != codes.OK && words[0] == "bad" {
		return nil, status.Error(code, "this request is bad")
	}
	if w.toil.Load() {
		return nil, w.toils(ctx, words[2])
	}
	if w.pool != nil {
		return w.queued(ctx)
	}
	timer := time.NewTimer(workTime + time.Duration(w.slow.Load()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	// A process that was stopped finds both at once, or its own timer first.
	if d, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Now().After(d) {
		w.dropped.Add(1)
		return nil, status.FromContextError(cmp.Or(ctx.Err(), context.DeadlineExceeded)).Err()
	}
	if time.Since(time.UnixMicro(sent)) > workDeadline+100*time.Millisecond {
		w.stale.Add(1) // nobody can have waited for it
	}
	if w.next != nil {
		if err := w.next(ctx, &line{Idempotent: true}, in.GetValue(), new(trace)); err != nil {
			return nil, err // as it is, with what it says about retries
		}
	}
	return wrapperspb.String("done"), nil
}

// counts are what a worker knows of itself.
type counts struct {
	// Arrived are all calls, where somebody counts those that never reach the
	// handler. Started are those that do, Open those that have not ended. Dropped
	// ended because their caller had gone, Stale were served to the end all the same.
	// Done are those that a pool served in time. Retried and Bounced are attempts of
	// its own calls that it made again, or that were handed back to it.
	Arrived int64 `json:"arrived,omitempty"`
	Done    int64 `json:"done,omitempty"`
	Retried int64 `json:"retried,omitempty"`
	Bounced int64 `json:"bounced,omitempty"`
	Started int64 `json:"started"`
	Dropped int64 `json:"dropped"`
	Stale   int64 `json:"stale"`
	Open    int64 `json:"open"`

	Goroutines int   `json:"goroutines"`
	Wall       int64 `json:"wall"` // what time it is for the process, in microseconds since 1970
}

// obey carries out the commands on standard input and ends the process with it:
// the test has died then.
func (w *worker) obey() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := w.order(strings.Fields(lines.Text())); err != nil {
			fmt.Fprintf(os.Stderr, "order %q: %v\n", lines.Text(), err)
			exit(4)
		}
	}
	exit(3)
}

func (w *worker) order(words []string) error {
	words = append(words, "", "")
	switch words[0] {
	case "well":
		w.slow.Store(0)
		w.fail.Store(0)
		w.bad.Store(0)
		w.limit.Store(0)
		if hang := w.hang.Swap(nil); hang != nil {
			close(*hang)
		}
		w.toil.Store(false)
	case "toil":
		w.toil.Store(true)
	case "slow":
		d, err := time.ParseDuration(words[1])
		w.slow.Store(int64(d))
		return err
	case "fail", "bad":
		code, err := strconv.ParseUint(words[1], 10, 32)
		if words[0] == "fail" {
			w.fail.Store(uint32(code))
		} else {
			w.bad.Store(uint32(code))
		}
		return err
	case "limit":
		n, err := strconv.ParseInt(words[1], 10, 64)
		w.limit.Store(n)
		return err
	case "hang":
		w.hang.Store(new(make(chan struct{})))
	case "count":
		emit(line{Kind: lineCounts, Counts: &counts{
			Arrived: w.arrived.Load(), Done: w.done.Load(), Retried: w.retried.Load(), Bounced: w.bounced.Load(),
			Started: w.started.Load(), Dropped: w.dropped.Load(), Stale: w.stale.Load(), Open: w.open.Load(),
			Goroutines: runtime.NumGoroutine(), Wall: time.Now().UnixMicro(),
		}})
	default:
		return errors.New("unknown")
	}
	return nil
}

// serveFleet is an instance of the fleet with all of Plinth.
func serveFleet() {
	w := new(worker)
	var opts []framework.Option
	if err := w.become(os.Getenv(workVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		exit(1)
	}
	if w.spec.Counts {
		opts = append(opts, framework.WithServerOptions(grpc.StatsHandler(knocks{w})), framework.WithEvents(w.hear))
	}
	go w.obey()
	framework.Run(w.spec.Service, func(_ context.Context, s *framework.Service) error {
		s.RegisterService(&workDesc, w)
		s.Handle(workPath, w)
		return errors.Join(w.link(s), w.serveNetRPC())
	}, opts...)
	exit(0)
}

// serveForeign is an instance of the fleet with nothing of Plinth: no health
// service, no load report, no allowance for keepalive.
func serveForeign(addr string) int {
	w := new(worker)
	go w.obey()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := grpc.NewServer()
	server.RegisterService(&workDesc, w)
	if err := server.Serve(l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

type workServer interface {
	Do(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

var workDesc = grpc.ServiceDesc{
	ServiceName: "chaos.v1.Work",
	HandlerType: (*workServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Do",
		Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, req any) (any, error) {
				return srv.(workServer).Do(ctx, req.(*wrapperspb.StringValue))
			}
			if interceptor == nil {
				return handler(ctx, in)
			}
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: workMethod}, handler)
		},
	}},
}

// The lines of the processes of a fleet, on standard output.
const (
	lineCall   = "call"   // a call has ended
	lineEvent  = "event"  // a client tells something
	lineConn   = "conn"   // a connection came or went
	lineDial   = "dial"   // a connection was tried
	lineGauge  = "gauge"  // a tenth of a second has passed
	lineCounts = "counts" // an answer to "count"
	lineWork   = "work"   // work for which somebody waited has ended
	lineIdle   = "idle"   // an answer to "stop": all calls have ended
)

// line is one of them. Times are in microseconds, since 1970 or as a duration.
type line struct {
	Kind   string `json:"k"`
	Client int    `json:"c,omitempty"`
	At     int64  `json:"t,omitempty"`
	Took   int64  `json:"d,omitempty"`

	Code       codes.Code `json:"code,omitempty"`
	Idempotent bool       `json:"i,omitempty"`
	Bad        bool       `json:"b,omitempty"`
	Canceled   bool       `json:"x,omitempty"` // by the caller
	Tries      []try      `json:"a,omitempty"`

	Name   string `json:"n,omitempty"` // of an event
	Reason string `json:"r,omitempty"`

	Addr  string `json:"p,omitempty"` // of a connection
	Local string `json:"l,omitempty"`
	Up    bool   `json:"u,omitempty"`

	Goroutines int   `json:"g,omitempty"`
	Conns      int   `json:"o,omitempty"`
	Wall       int64 `json:"m,omitempty"` // the process's own time

	Number int64 `json:"w,omitempty"` // of the call that wanted the work
	Left   int64 `json:"f,omitempty"` // of its deadline when the work began

	Counts *counts `json:"s,omitempty"`
}

// try is one attempt of a call that was sent to an instance.
type try struct {
	Addr string     `json:"p"`
	At   int64      `json:"t"`
	Took int64      `json:"d"`
	Code codes.Code `json:"code,omitempty"`
}

// output keeps the lines of one process whole.
var output sync.Mutex
