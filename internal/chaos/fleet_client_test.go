//go:build linux

package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"plinth.internal/client"
	"plinth.internal/middleware"
	"plinth.internal/registry"
	"plinth.internal/registry/etcd"
	"plinth.internal/registry/static"
)

// callerSpec says what a process of callers does.
type callerSpec struct {
	Etcd      string   `json:"etcd"`      // where the instances are found, or
	Namespace string   `json:"namespace"` // in there
	Static    []string `json:"static"`    // their addresses

	Clients int           `json:"clients"` // in this process, each with its own state and connections
	Rate    float64       `json:"rate"`    // calls per second of each
	Spread  time.Duration `json:"spread"`  // in which the clients start, evenly

	NonIdempotent float64 `json:"non_idempotent"` // share of calls that may not be repeated
	Bad           float64 `json:"bad"`            // share of bad requests

	Attempts       int           `json:"attempts"` // 1 = no retries; 0 = the default
	AttemptTimeout time.Duration `json:"attempt_timeout"`
	Precise        bool          `json:"precise"` // the balancer that asks when what it knows is old
	Named          string        `json:"named"`   // what the clients call themselves, with their numbers; "" = nothing
	Dials          bool          `json:"dials"`   // tell of every attempt to connect
	Plain          bool          `json:"plain"`   // plain grpc-go, nothing of Plinth
	Transport      string        `json:"transport"`
}

// callers is a process of clients that call the fleet at a steady rate, whatever
// becomes of the calls.
type callers struct {
	spec   callerSpec
	cancel atomic.Uint64 // per cent of the calls that are given up half way
	rate   atomic.Uint64 // per cent of the spec's
	greed  atomic.Uint64 // how many times its rate the first client makes
	conns  atomic.Int64
	made   atomic.Uint64 // calls so far
	calls  sync.WaitGroup
	stop   chan struct{}
}

// epoch is what the times that a process tells are counted from: they stay right
// where its wall clock is stepped.
var epoch = time.Now()

// micros is a time in microseconds since 1970, by the wall clock as it was when the
// process began.
func micros(t time.Time) int64 { return epoch.Add(t.Sub(epoch)).UnixMicro() }

// out is where lines go, through a buffer that a gauge flushes.
var out = bufio.NewWriterSize(os.Stdout, 64<<10)

// emit writes a line.
func emit(l line) {
	if l.At == 0 {
		l.At = micros(time.Now())
	}
	data, err := json.Marshal(l)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		exit(5)
	}
	output.Lock()
	defer output.Unlock()
	_, _ = out.Write(append(data, '\n'))
	if l.Kind != lineCall {
		_ = out.Flush()
	}
}

func callFleet(args []string) int {
	x := &callers{stop: make(chan struct{})}
	x.rate.Store(100)
	x.greed.Store(1)
	if err := json.Unmarshal([]byte(args[0]), &x.spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var reg *registry.Registry
	if x.spec.Etcd == "" {
		r, err := static.Open(map[string][]string{workService: x.spec.Static})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		reg = r
	} else {
		c, err := etcd.Dial(etcd.Config{Endpoints: []string{x.spec.Etcd}})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		reg = etcd.Open(c, etcd.WithNamespace(x.spec.Namespace))
	}
	go x.obey()
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			emit(line{Kind: lineGauge, Goroutines: runtime.NumGoroutine(), Conns: int(x.conns.Load()), Wall: time.Now().UnixMicro()})
		}
	}()
	for i := range x.spec.Clients {
		do, err := x.dial(i, reg)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		x.calls.Go(func() { x.run(i, do) })
		<-time.After(x.spec.Spread / time.Duration(x.spec.Clients))
	}
	select {} // obey ends the process
}

// dial makes one client.
func (x *callers) dial(i int, reg *registry.Registry) (invoke, error) {
	traced := grpc.WithStatsHandler(tracer{callers: x, client: i})
	if x.spec.Plain {
		m := manual.NewBuilderWithScheme("fleet")
		var state resolver.State
		for _, addr := range x.spec.Static {
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
		}
		m.InitialState(state)
		conn, err := grpc.NewClient("fleet:///work", traced, grpc.WithResolvers(m),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
		return invokeGRPC(conn), err
	}
	opts := []client.Option{client.WithEvents(func(e client.Event) { tell(i, e) })}
	if x.spec.Named != "" {
		opts = append(opts, client.WithCaller(x.spec.Named+strconv.Itoa(i)))
	}
	if x.spec.Attempts != 0 || x.spec.AttemptTimeout != 0 || x.spec.Precise {
		opts = append(opts, client.WithSettings(func(string, string) client.Settings {
			s := client.DefaultSettings()
			if x.spec.Attempts != 0 {
				s.Retry.MaxAttempts = x.spec.Attempts
			}
			if x.spec.AttemptTimeout != 0 {
				s.AttemptTimeout = x.spec.AttemptTimeout
			}
			if x.spec.Precise {
				s.Balancer = "precise"
			}
			return s
		}))
	}
	m := &monitor{callers: x, client: i}
	if x.spec.Dials || x.spec.Transport != overGRPC {
		opts = append(opts, client.WithDialer(m.dial))
	}
	c, err := client.New(reg, opts...)
	if err != nil {
		return nil, err
	}
	if x.spec.Transport != overGRPC {
		return m.invoker(c, x.spec.Transport)
	}
	conn, err := c.Conn(workService, traced)
	return invokeGRPC(conn), err
}

// tell writes an event. Its fields are read by name, because which kinds of
// events there are is not what this harness is about.
func tell(i int, e client.Event) {
	v := reflect.ValueOf(e)
	l := line{Kind: lineEvent, Client: i, Name: v.Type().Name()}
	if l.Name == "ViewChanged" {
		return
	}
	for _, name := range []string{"Reason", "Err"} {
		if f := v.FieldByName(name); f.IsValid() {
			l.Reason = strings.TrimSpace(l.Reason + " " + fmt.Sprint(f.Interface()))
		}
	}
	for _, name := range []string{"Addr", "Instance"} {
		if f := v.FieldByName(name); f.IsValid() && l.Addr == "" {
			l.Addr = fmt.Sprint(f.Interface())
		}
	}
	emit(l)
}

func (x *callers) obey() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := append(strings.Fields(lines.Text()), "")
		n, _ := strconv.ParseUint(words[1], 10, 64) // absent for stop
		switch words[0] {
		case "cancel":
			x.cancel.Store(n)
		case "rate":
			x.rate.Store(n)
		case "greed":
			x.greed.Store(n)
		case "stop":
			close(x.stop)
			x.calls.Wait()
			emit(line{Kind: lineIdle, Goroutines: runtime.NumGoroutine(), Conns: int(x.conns.Load())})
		default:
			fmt.Fprintf(os.Stderr, "unknown order %q\n", lines.Text())
			exit(4)
		}
	}
	exit(3)
}

// run calls at random moments, as many independent users do. The moments depend on
// nothing that happens: what a busy machine has delayed is made up for.
func (x *callers) run(i int, do invoke) {
	next := time.Now()
	for {
		rate := x.spec.Rate * float64(x.rate.Load()) / 100
		if i == 0 {
			rate *= float64(x.greed.Load())
		}
		next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		pause := time.NewTimer(time.Until(next))
		select {
		case <-x.stop:
			pause.Stop()
			return
		case <-pause.C:
			x.calls.Go(func() { x.call(i, do) })
		}
	}
}

func (x *callers) call(i int, do invoke) {
	begun := time.Now()
	l := line{Kind: lineCall, Client: i, At: micros(begun)}
	l.Idempotent = rand.Float64() >= x.spec.NonIdempotent
	l.Bad = rand.Float64() < x.spec.Bad
	l.Canceled = rand.Uint64N(100) < x.cancel.Load()
	t := new(trace)
	ctx, cancel := context.WithTimeout(context.Background(), workDeadline)
	defer cancel()
	if l.Idempotent {
		ctx = middleware.WithIdempotency(ctx, middleware.Idempotent)
	}
	if l.Canceled {
		timer := time.AfterFunc(rand.N(workTime), cancel)
		defer timer.Stop()
	}
	// As a caller of another version or make may do.
	ctx = metadata.AppendToOutgoingContext(ctx, "x-from-the-future", "yes", "plinth-from-the-future", "7", "future-bin", "\x00\xff")
	kind := "good"
	if l.Bad {
		kind = "bad"
	}
	err := do(ctx, &l, fmt.Sprintf("%s %d %d", kind, l.At, x.made.Add(1)), t)
	l.Took, l.Code, l.Tries = time.Since(begun).Microseconds(), middleware.Code(err), t.end()
	if err != nil && l.Code != codes.Canceled {
		l.Reason = err.Error()
	}
	emit(l)
}

type traceKey struct{}

// trace collects the attempts of one call, as grpc sends them.
type trace struct {
	mu    sync.Mutex
	tries []*try
	ended bool
}

// end returns the attempts that were sent; those that still run end here.
func (t *trace) end() []try {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	var tries []try
	for _, one := range t.tries {
		if one.Addr == "" {
			continue
		}
		if one.Took == 0 {
			one.Took, one.Code = micros(time.Now())-one.At, codes.Canceled
		}
		tries = append(tries, *one)
	}
	return tries
}

// tracer listens to one client's transport.
type tracer struct {
	*callers

	client int
}

type tryKey struct{}

func (tracer) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	t, _ := ctx.Value(traceKey{}).(*trace)
	if t == nil || info.FullMethodName != workMethod {
		return ctx
	}
	one := new(try)
	t.mu.Lock()
	t.tries = append(t.tries, one)
	t.mu.Unlock()
	return context.WithValue(ctx, tryKey{}, one)
}

func (tracer) HandleRPC(ctx context.Context, s stats.RPCStats) {
	one, _ := ctx.Value(tryKey{}).(*try)
	if one == nil {
		return
	}
	t := ctx.Value(traceKey{}).(*trace)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	switch s := s.(type) {
	case *stats.OutHeader:
		one.Addr, one.At = s.RemoteAddr.String(), micros(time.Now())
	case *stats.End:
		one.Took, one.Code = max(1, micros(s.EndTime)-one.At), status.Code(s.Error)
	}
}

type connKey struct{}

func (tracer) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connKey{}, info)
}

func (t tracer) HandleConn(ctx context.Context, s stats.ConnStats) {
	info := ctx.Value(connKey{}).(*stats.ConnTagInfo)
	l := line{Kind: lineConn, Client: t.client, Addr: info.RemoteAddr.String(), Local: info.LocalAddr.String()}
	if _, l.Up = s.(*stats.ConnBegin); l.Up {
		t.conns.Add(1)
	} else {
		t.conns.Add(-1)
	}
	emit(l)
}
